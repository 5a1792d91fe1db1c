"""Types of every kind that a record may be of, and some of none."""

import enum
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, NamedTuple, NewType, TypedDict, TypeVar

import faust
import msgspec
import pydantic
from faust.models.fields import IntegerField

T = TypeVar("T")


class Flight(msgspec.Struct):
    carrier: str
    dep_delay: float | None = None
    stops: list[str] = []


class Opened(msgspec.Struct, tag="opened"):
    gate: str


class Closed(msgspec.Struct, tag="closed"):
    gate: str
    at: datetime


class Page(msgspec.Struct, Generic[T]):
    rows: list[T]


@dataclass
class Weather:
    origin: str
    temp: float = 0.0


class Airport(TypedDict):
    faa: str
    alt: int


class Point(NamedTuple):
    lat: float
    lon: float = 0.0


class Cause(enum.Enum):
    CARRIER = "carrier"
    WEATHER = "weather"


class Seat(pydantic.BaseModel):
    row: int = pydantic.Field(ge=1)
    letter: str = pydantic.Field("A", alias="seatLetter")


@pydantic.dataclasses.dataclass
class Crew:
    name: str


class Item(faust.Record):
    sku: str
    count: int = 1


class Order(faust.Record, coerce=True):
    id: str
    items: list[Item]
    at: datetime | None = None


class Renamed(faust.Record):
    count: int = IntegerField(input_name="n", output_name="n", required=True)


class Unannounced(faust.Record, include_metadata=False):
    sku: str


class Pickled(faust.Record, serializer="pickle"):
    sku: str


class WithModels(msgspec.Struct):
    seats: list[Seat]
    item: Item


Carrier = NewType("Carrier", str)


class Plain:
    pass


class Holder(msgspec.Struct):
    plain: list[Plain]


class Dangling(msgspec.Struct):
    other: "Nowhere"  # type: ignore[name-defined] # noqa: F821


class Abstract(faust.Record, abstract=True):
    pass
