"""The workloads: what is done to which records, by which candidates."""

from dataclasses import dataclass

from benchmarks import candidates as c
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
)
WORKLOADS = {workload.name: workload for workload in _ALL}
GROUPS = {
    "short": ("stateless", "keyed"),
    "all": tuple(WORKLOADS),
}
"""Names for several."""
SHORT_CANDIDATES = (c.BASE, c.LIMIT)
"""Who takes part in `short` unless others are named."""
