"""What one more `map` and one more `filter` cost a record: pipelines of one and of nine such steps, in turns in one
process, fed from memory in batches. What they differ by is eight steps and nothing else."""

import statistics
import time
from collections.abc import Callable

from benchmarks.backlog import Backlog
from benchmarks.candidates import Candidate
from benchmarks.records import Departure
from benchmarks.runs import Run
from penstock.pipelines import Pipeline, Topic, TopologyDriver

MORE = 8
"""Steps by which the two pipelines differ."""
BATCH = 4000
"""Records: what a poll of a backlog gives."""


def same(flight: Departure) -> Departure:
    """The cheapest function there is to map with."""
    return flight


def kept(flight: Departure) -> bool:
    """The cheapest predicate."""
    return True


def dropped(flight: Departure) -> bool:
    """Ends the pipeline, so that no output is encoded."""
    return False


class Chain:
    """A pipeline of so many equal steps, fed from memory."""

    def __init__(self, kind: str, steps: int, backlog: Backlog) -> None:
        self._backlog = backlog
        self._source = Topic("flights", key=str, value=Departure, partitions=1)
        stream = Pipeline("micro").group("g").stream(self._source)
        for _ in range(steps):
            stream = stream.map(same) if kind == "map" else stream.filter(kept)
        stream.filter(dropped).to(Topic("none", key=str, value=Departure, partitions=1))
        self.driver = TopologyDriver(stream.group.pipeline, partitions=1, batch=BATCH)

    def seconds(self) -> float:
        """Processor seconds for the backlog."""
        for key, value, at in self._backlog.records():
            self.driver.send_raw(self._source, value, key=key.decode(), timestamp=at)
        started = time.process_time()
        self.driver.process()
        return time.process_time() - started


def micro(candidate: Candidate, records: int) -> Run:
    """Nanoseconds of processor time a record, of one more step of the candidate's kind; the median of nine turns."""
    backlog = Backlog(min(records, 10 * BATCH))
    one, more = Chain(candidate.name, 1, backlog), Chain(candidate.name, 1 + MORE, backlog)
    return Run(candidate.name, backlog.size, {"ns": step_ns(one.seconds, more.seconds, backlog.size)}, right=True)


def step_ns(one: Callable[[], float], more: Callable[[], float], records: int, turns: int = 9) -> float:
    """The median difference of the two's seconds, for a step and a record, in ns."""
    one()
    more()
    return statistics.median(1e9 * (more() - one()) for _ in range(turns)) / MORE / records
