"""Faust itself on the other side: each reads what the other writes."""

from datetime import UTC, datetime
from typing import Any

import pytest

from penstock.tables.serdes import msgpack, serde_of
from tests.unit.codable import Item, Order, Pickled, Renamed, Seat, Unannounced, WithModels

ORDER = Order(id="o-1", items=[Item("a"), Item("b", 2)], at=datetime(2013, 1, 1, 5, 4, tzinfo=UTC))


@pytest.mark.parametrize(
    "value", [ORDER, Item("a"), Renamed(count=3), Unannounced("s"), Pickled("s")], ids=lambda v: type(v).__name__
)
@pytest.mark.filterwarnings("ignore::faust.exceptions.SecurityWarning")
def test_faust_and_we_read_what_the_other_writes(value: Any) -> None:
    serde = serde_of(type(value))
    assert serde.encode(value) == value.dumps(serializer=value._options.serializer or "json")
    assert serde.decode(value.dumps(serializer=value._options.serializer or "json")) == value
    assert type(value).loads(serde.encode(value), serializer="json") == value


def test_nested_records_and_models_come_back_as_such() -> None:
    back = serde_of(Order).decode(serde_of(Order).encode(ORDER))
    assert [type(item) for item in back.items] == [Item, Item]
    held = WithModels([Seat(row=2)], Item("a"))
    for serde in (serde_of(WithModels), msgpack(WithModels)):
        assert serde.decode(serde.encode(held)) == held


def test_a_namespace_that_is_not_known_here_is_no_obstacle() -> None:
    assert serde_of(Item).decode(b'{"sku":"a","__faust":{"ns":"another.app.Item"}}') == Item("a")
