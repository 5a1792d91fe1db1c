"""Fields of a type, where it is known to have some."""

from typing import Any

import pytest

from penstock.tables.serdes import fields_of
from tests.unit.codable import (
    Abstract,
    Airport,
    Closed,
    Crew,
    Dangling,
    Flight,
    Item,
    Opened,
    Page,
    Plain,
    Point,
    Seat,
    T,
    Weather,
)


@pytest.mark.parametrize(
    ("tp", "fields"),
    [
        (Flight, {"carrier": str, "dep_delay": float | None, "stops": list[str]}),
        (Flight | None, {"carrier": str, "dep_delay": float | None, "stops": list[str]}),
        (Page[int], {"rows": list[int]}),
        (Weather, {"origin": str, "temp": float}),
        (Airport, {"faa": str, "alt": int}),
        (Point, {"lat": float, "lon": float}),
        (Seat, {"row": int, "letter": str}),
        (Crew, {"name": str}),
        (Item, {"sku": str, "count": int}),
        (Dangling, {"other": Any}),
    ],
)
def test_fields(tp: object, fields: dict[str, object]) -> None:
    assert fields_of(tp) == fields
    assert list(fields_of(tp) or ()) == list(fields)


@pytest.mark.parametrize(
    "tp", [dict, dict[str, int], Any, object, int, str, Opened | Closed, Plain, None, T, 3, "Flight", Abstract, tuple]
)
def test_no_known_fields(tp: object) -> None:
    assert fields_of(tp) is None
