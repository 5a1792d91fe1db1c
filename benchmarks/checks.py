"""What must come out of a backlog, computed by Polars, and the comparison with what did, record by record."""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import polars as pl

from benchmarks.backlog import Backlog
from benchmarks.records import DAY_MS, GAP_MS, NEAR_MS
from examples.flights import data
from penstock.tables.windowed import BOUNDS, unpack

Schema = dict[str, Any]


def stateless(flights: pl.DataFrame) -> pl.DataFrame:
    """Every departed flight as a delay."""
    minutes = pl.col("dep_delay")
    return flights.filter(minutes.is_not_null()).select(
        "key",
        "id",
        "carrier",
        pl.format("{}-{}", "origin", "dest").alias("route"),
        minutes.alias("minutes"),
        (minutes > 15).alias("late"),
    )


def rekey(flights: pl.DataFrame) -> pl.DataFrame:
    """The same under their routes."""
    return stateless(flights).with_columns(pl.col("route").alias("key"))


def keyed(flights: pl.DataFrame) -> pl.DataFrame:
    """Each key's flights and miles so far, after each flight."""
    n, total = pl.int_range(1, pl.len() + 1).over("key"), pl.col("distance").cum_sum().over("key")
    return flights.select("key", n.alias("n"), total.alias("total"))


def join(flights: pl.DataFrame) -> pl.DataFrame:
    """The flights of aircraft whose data are known."""
    planes = data.planes_frame().select("manufacturer", "seats", pl.col("tailnum").alias("key"))
    return flights.select("key", "id").join(planes, on="key").select("key", "id", "manufacturer", "seats")


def stream_join(flights: pl.DataFrame) -> pl.DataFrame:
    """Each two flights of an aircraft, one of an even and one of an odd number, that are near in time."""
    near = pl.col("time") // NEAR_MS
    even = flights.filter(pl.col("id") % 2 == 0).select("key", "time", pl.col("id").alias("even"), near.alias("at"))
    around = pl.concat_list(near - 1, near, near + 1).alias("at")
    odd = flights.filter(pl.col("id") % 2 == 1).select("key", "time", pl.col("id").alias("odd"), around).explode("at")
    met = even.join(odd, on=["key", "at"]).filter((pl.col("time") - pl.col("time_right")).abs() <= NEAR_MS)
    return met.select("key", "even", "odd")


def tumbling(flights: pl.DataFrame) -> pl.DataFrame:
    """Each key's flights and miles of a day so far, after each flight."""
    start = pl.col("time") // DAY_MS * DAY_MS
    return _so_far(flights, start, start + DAY_MS, start)


def session(flights: pl.DataFrame) -> pl.DataFrame:
    """Each key's flights and miles since a longer pause, after each flight."""
    pause = (pl.col("time") - pl.col("time").shift(1)).over("key") > GAP_MS
    numbered = flights.with_columns(pause.fill_null(True).cum_sum().over("key").alias("number"))
    first = pl.col("time").first().over("key", "number")
    return _so_far(numbered.with_columns(first.alias("first")), pl.col("first"), pl.col("time"), pl.col("number"))


def _so_far(flights: pl.DataFrame, start: pl.Expr, end: pl.Expr, window: pl.Expr) -> pl.DataFrame:
    named = flights.with_columns(
        pl.format("{} {} {}", start, end, "key").alias("named"), window.alias("window"), pl.col("distance")
    )
    n, total = pl.int_range(1, pl.len() + 1), pl.col("distance").cum_sum()
    return named.select(
        pl.col("named").alias("key"), n.over("key", "window").alias("n"), total.over("key", "window").alias("total")
    )


DELAY: Schema = {"id": pl.Int64, "carrier": pl.String, "route": pl.String, "minutes": pl.Int64, "late": pl.Boolean}
PROGRAMS: dict[str, tuple[Callable[[pl.DataFrame], pl.DataFrame], Schema]] = {
    "stateless": (stateless, DELAY),
    "rekey": (rekey, DELAY),
    "keyed": (keyed, {"n": pl.Int64, "total": pl.Int64}),
    "tumbling": (tumbling, {"n": pl.Int64, "total": pl.Int64}),
    "session": (session, {"n": pl.Int64, "total": pl.Int64}),
    "stream-join": (stream_join, {"even": pl.Int64, "odd": pl.Int64}),
    "join": (join, {"id": pl.Int64, "manufacturer": pl.String, "seats": pl.Int64}),
}
"""What a program does to the flights, and the fields of its outputs' JSON. Its rows differ from one another."""


WINDOWED = ("tumbling", "session")
"""Programs whose outputs have the keys of windows, in Penstock's bytes."""


def _window(raw: bytes) -> str:
    start, end = unpack(raw)
    return f"{start} {end} {raw[BOUNDS:].decode()}"


@dataclass(frozen=True)
class Verdict:
    """How an output compares with what it must be. `strange` counts records that no computation gives, `disordered`
    the updates of a key that came before an earlier one."""

    outputs: int
    expected: int
    missing: int
    strange: int
    repeated: int
    disordered: int
    unreadable: str = ""

    @property
    def right(self) -> bool:
        """Whether every record is there, once, in order, and none besides."""
        wrong = self.missing or self.strange or self.repeated or self.disordered or self.unreadable
        return not wrong and self.outputs == self.expected

    def __str__(self) -> str:
        if self.right:
            return "right"
        if self.unreadable:
            return f"WRONG: {self.unreadable}"
        names = ("missing", "strange", "repeated", "disordered")
        parts = [f"{getattr(self, name):,} {name}" for name in names if getattr(self, name)]
        return f"WRONG: {', '.join(parts)}; {self.outputs:,} outputs, not {self.expected:,}"


class Check:
    """Holds the outputs of one run against what a program makes of a backlog. Keys of outputs are compared too.

    Give `add` the records of each partition in order, then ask for the verdict.
    """

    def __init__(self, program: str, backlog: Backlog) -> None:
        self._program, self._backlog = program, backlog
        self._keys: list[bytes] = []
        self._values: list[bytes] = []

    @cached_property
    def whole(self) -> pl.DataFrame:
        """What must come out."""
        return PROGRAMS[self._program][0](self._backlog.frame)

    @property
    def expected(self) -> int:
        """How many records must come out."""
        return self.whole.height

    def add(self, records: Sequence[Any]) -> None:
        """Take output records."""
        self._keys += [record.key or b"" for record in records]
        self._values += [record.value or b"null" for record in records]

    def verdict(self) -> Verdict:
        """The comparison."""
        try:
            found = self._found()
        except (pl.exceptions.PolarsError, ValueError) as exc:
            return Verdict(len(self._values), self.expected, 0, 0, 0, 0, f"outputs cannot be read: {exc}")
        columns, whole = found.columns, self.whole.select(found.columns)
        once = found.unique()
        return Verdict(
            outputs=found.height,
            expected=whole.height,
            missing=whole.join(once, on=columns, how="anti", nulls_equal=True).height,
            strange=once.join(whole, on=columns, how="anti", nulls_equal=True).height,
            repeated=found.height - once.height,
            disordered=_disordered(found) if self._program in ("keyed", *WINDOWED) else 0,
        )

    def _found(self) -> pl.DataFrame:
        schema = PROGRAMS[self._program][1]
        if not self._values:
            return pl.DataFrame(schema={"key": pl.String, **schema})
        values = pl.read_ndjson(io.BytesIO(b"\n".join(self._values)), schema=schema)
        named = _window if self._program in WINDOWED else bytes.decode
        keys = pl.Series("key", [named(key) for key in self._keys])
        if values.height != len(keys):
            raise pl.exceptions.ShapeError(f"{values.height} values to {len(keys)} keys")
        return values.select(keys, pl.all())


def _disordered(found: pl.DataFrame) -> int:
    return found.filter(pl.col("n") < pl.col("n").shift(1).over("key")).height
