"""The workloads: what is done to which records, by which candidates."""

from dataclasses import dataclass

from benchmarks import candidates as c
from benchmarks.backlog import SHAPES
from benchmarks.candidates import Candidate

MILLION = 1_000_000


@dataclass(frozen=True)
class Workload:
    """A workload.

    Attributes:
        name: on the command line.
        what: in words.
        candidates: who does it.
        program: what is done to the records.
        shape: of the records, see `backlog.SHAPES`.
        records: how many.
        kind: how it is measured: `drain` a backlog, and others that have modules of their own.
        rate: records a second, where they come at a steady rate.
    """

    name: str
    what: str
    candidates: tuple[Candidate, ...]
    program: str = "stateless"
    shape: str = "flights"
    records: int = MILLION
    kind: str = "drain"
    rate: int = 0


_LOOPS = (c.PENSTOCK, c.AIOKAFKA, c.CONFLUENT)
_SHAPES = (c.PENSTOCK, c.AIOKAFKA)
_TOLERANT = (c.PENSTOCK_SKIP, c.PENSTOCK_DEAD, c.AIOKAFKA_SKIP)

_AS_IT_COMES = (c.FLOOR, *_LOOPS, c.PENSTOCK_ALO, c.STREAMS, c.STREAMS_LOW, c.BYTEWAX)
_STEADY = {
    500: (*_AS_IT_COMES, c.QUIX, c.FAUST),
    1_000: (*_AS_IT_COMES, c.QUIX, c.FAUST),
    5_000: (*_AS_IT_COMES, c.QUIX),
    50_000: _AS_IT_COMES,
}
"""Records a second -> who keeps up with them on one core."""

_ALL = (
    Workload(
        "stateless",
        "decode, filter, map, encode, produce",
        (*_LOOPS, c.PENSTOCK_ALO, c.STREAMS, c.STREAMS_EOS, c.BYTEWAX, c.QUIX, c.FAUST),
    ),
    Workload(
        "keyed",
        "count and sum per key in RocksDB with a changelog, every update sent on",
        (*_LOOPS, c.PENSTOCK_ALO, c.STREAMS, c.STREAMS_EOS, c.BYTEWAX_KEYED, c.QUIX, c.FAUST),
        program="keyed",
    ),
    Workload(
        "rekey",
        "filter, rekey through a repartition topic, map",
        (*_LOOPS, c.PENSTOCK_ALO, c.STREAMS, c.STREAMS_EOS, c.QUIX, c.FAUST),
        program="rekey",
    ),
    Workload(
        "join",
        "join with a table that a compacted topic fills",
        (*_LOOPS, c.PENSTOCK_ALO, c.STREAMS, c.STREAMS_EOS, c.QUIX),
        program="join",
    ),
    Workload(
        "tumbling",
        "count and sum per key and day in RocksDB with a changelog, every update sent on",
        (c.PENSTOCK, c.PENSTOCK_ALO, c.STREAMS, c.STREAMS_EOS),
        program="tumbling",
    ),
    Workload(
        "session",
        "count and sum per key and session, gap 8 h, in RocksDB with a changelog, every update sent on",
        (c.PENSTOCK, c.PENSTOCK_ALO, c.STREAMS, c.STREAMS_EOS),
        program="session",
    ),
    Workload(
        "stream-join",
        "flights of even numbers joined with those of odd ones, of one aircraft, 4 h apart at most",
        (c.PENSTOCK, c.PENSTOCK_ALO, c.STREAMS, c.STREAMS_EOS),
        program="stream-join",
    ),
    Workload(
        "deliveries",
        "stateless, both deliveries, checkpoints each 100 ms (the default) and each second",
        (c.PENSTOCK, c.PENSTOCK_ALO, c.PENSTOCK_SECOND, c.PENSTOCK_ALO_SECOND),
    ),
    *(
        Workload(f"latency-{rate}", f"end to end at {rate:,} records/s", _STEADY[rate], kind="latency", rate=rate)
        for rate in _STEADY
    ),
    Workload(
        "restore",
        "a table of a million keys of 16 bytes, values of 100, from its changelog into an empty store",
        (c.PENSTOCK, c.STREAMS),
        kind="restore",
    ),
    Workload(
        "startup",
        "from the command to the first record's output",
        (*_LOOPS, c.PENSTOCK_ALO, c.STREAMS, c.BYTEWAX, c.QUIX, c.FAUST),
        kind="start",
    ),
    Workload(
        "scaling",
        "stateless, one worker and two",
        (c.PENSTOCK, c.PENSTOCK_TWO, c.AIOKAFKA),
        records=3 * MILLION,
    ),
    Workload("flights", "the flights job as a whole, five groups", (c.PENSTOCK_JOB,), kind="flights"),
    Workload("large", "stateless, one record of 900 kB among small ones", _SHAPES, shape="large"),
    Workload("distinct", "keyed, every record a new key", _SHAPES, program="keyed", shape="distinct", records=500_000),
    Workload("one-key", "keyed, all records on one key", _SHAPES, program="keyed", shape="one-key"),
    Workload("empty", "keyed, one partition empty", _SHAPES, program="keyed", shape="empty"),
    *(Workload(shape, f"stateless, {SHAPES[shape]}", _TOLERANT, shape=shape) for shape in ("undecodable", "seldom")),
    Workload("micro", "one more step, in process", (c.MAP, c.FILTER), kind="micro"),
)
WORKLOADS = {workload.name: workload for workload in _ALL}
GROUPS = {
    "short": ("stateless", "keyed", "rekey", "join"),
    "latency": tuple(name for name in WORKLOADS if name.startswith("latency-")),
    "bad-input": ("undecodable", "seldom", "large", "distinct", "one-key", "empty"),
    "all": tuple(WORKLOADS),
}
"""Names for several."""
SHORT_CANDIDATES = (c.BASE, c.LIMIT)
"""Who takes part in `short` unless others are named."""
