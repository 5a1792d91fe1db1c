"""Types that have no serde are told with the reason and what to do."""

from collections.abc import Callable
from typing import Any

import faust
import pydantic
import pytest

from penstock.tables.serdes import Serde, UnknownType, json, msgpack, serde_of
from tests.unit.codable import Abstract, Dangling, Flight, Holder, Plain, T, Weather


@pytest.mark.parametrize("factory", [serde_of, json, msgpack])
@pytest.mark.parametrize(
    ("tp", "text"),
    [
        (Plain, r"^Plain has no serde: it is a plain class.* Declare a msgspec.Struct, .* or pass a Serde\("),
        (Holder, r"^Holder has no serde: Holder\.plain\[\] is Plain, a plain class"),
        (dict[str, Plain], r"^dict\[str, Plain\] has no serde"),
        (lambda value: value, r"it is a function, not a type"),
        (Callable[[int], int], r"^Callable"),
        (T, r"^T has no serde: it stands for a type that is not known here"),
        (None, r"^None has no serde: null is all it could hold"),
        (type(None), r"^None has no serde"),
        ("Flight", r"^'Flight' has no serde: it is a text\. Give the type itself"),
        (3, r"^3 has no serde"),
        ([], r"^\[\] has no serde"),
        ({"a": int}, r"has no serde"),
        (Dangling, r"^Dangling has no serde: .*Nowhere"),
        (str | bytes | int, r"more than one str-like type"),
        (Flight | Weather, r"has no serde"),
        (complex, r"^complex has no serde"),
    ],
)
def test_types_without_a_serde(factory: Callable[[object], Serde[Any]], tp: object, text: str) -> None:
    with pytest.raises(UnknownType, match=text):
        factory(tp)


def test_records_that_are_not_finished_have_no_serde() -> None:
    class Late(faust.Record, lazy_creation=True):
        x: int

    class Forward(pydantic.BaseModel):
        other: "Nowhere"  # type: ignore[name-defined] # noqa: F821

    for tp, advice in ((Abstract, "concrete"), (Late, "make_final"), (Forward, "model_rebuild")):
        with pytest.raises(UnknownType, match=advice):
            serde_of(tp)
