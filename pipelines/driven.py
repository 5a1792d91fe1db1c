"""A consumer group of the test driver: one worker that has every partition, or several that share them."""

from collections.abc import Callable, Collection
from typing import Any, Protocol

from penstock.agents.group import GroupRuntime
from penstock.agents.group_spec import GroupSpec
from penstock.tables.memory import MemoryStores
from penstock.tables.store import StoreFactory


class Worker(Protocol):
    """One member of a driven group."""

    runtime: GroupRuntime

    def process(self, limit: int) -> int:
        """One round over its partitions; how many records it processed."""
        ...

    def tick(self) -> bool:
        """Let time pass where all was read; whether something came of it."""
        ...

    def rows(self, table: Any) -> dict[Any, Any]:
        """The rows of its partitions of a table."""
        ...


Mine = Callable[[int], bool]
"""Whether a partition number is a worker's."""


class Killed(Exception):
    """A worker of the driver was killed at a step of its checkpoint."""


class FaultPoint:
    """Where in a checkpoint a worker is to die."""

    step: int | None = None

    def __call__(self, step: int) -> None:
        """Called before each step of a checkpoint."""
        if step == self.step:
            self.step = None
            raise Killed(f"before step {step}")


class DrivenGroup:
    """See above.

    Args:
        spec: the group.
        make: a worker on a disk, with some of the partitions.
        stop: ends a worker's runtime.
    """

    def __init__(
        self,
        spec: GroupSpec,
        make: Callable[[StoreFactory, Mine, FaultPoint], Worker],
        stop: Callable[[GroupRuntime], None],
    ) -> None:
        self.spec, self._make, self._stop = spec, make, stop
        self._disks: list[StoreFactory] = []
        self._count = 1
        self.fault = FaultPoint()
        self.workers: list[Worker] = []
        self._start()

    @property
    def runtime(self) -> GroupRuntime:
        """That of the first worker, which is the only one unless the group was rescaled."""
        return self.workers[0].runtime

    @property
    def runtimes(self) -> Collection[GroupRuntime]:
        """Those of all workers."""
        return [worker.runtime for worker in self.workers]

    def _start(self) -> None:
        self._disks += [MemoryStores() for _ in range(self._count - len(self._disks))]
        self.workers = []
        for number in range(self._count):
            self.workers.append(self._make(self._disks[number], _every(self._count, number), self.fault))

    def restart(self, *, lost: bool, workers: int | None = None) -> None:
        """End all workers and start as many as there were, or `workers`, from what was committed.

        Args:
            lost: their disks are empty then. Else each has the disk of the one that had its number last.
            workers: how many there are from now on.
        """
        for runtime in self.runtimes:
            self._stop(runtime)
        if lost:
            self._disks = []
        self._count = workers or self._count
        self._start()

    def process(self, limit: int) -> int:
        """One round of every worker."""
        return sum(worker.process(limit) for worker in self.workers)

    def tick(self) -> int:
        """Let time pass for every worker; for how many something came of it."""
        return sum(worker.tick() for worker in self.workers)

    def rows(self, table: Any) -> dict[Any, Any]:
        """All rows of a table."""
        found: dict[Any, Any] = {}
        for worker in self.workers:
            found |= worker.rows(table)
        return found


def _every(count: int, number: int) -> Mine:
    return lambda partition: partition % count == number
