"""A pipeline of tables made from tables, over topics of its own, and what its results are by plain Python."""

from collections.abc import Mapping
from pathlib import Path

import msgspec

from penstock.pipelines import FOREVER, Count, Pipeline, ProcessContext, Sum, Topic, nullable

PARTITIONS = 3


class Worker(msgspec.Struct, frozen=True):
    """A row of the left tables."""

    boss: str | None
    pay: int


class Pay(msgspec.Struct, frozen=True):
    """What a boss's people cost."""

    workers: int
    pay: int


def boss_of(worker: Worker) -> str | None:
    """The foreign key, and the group."""
    return worker.boss


def named(worker: Worker, name: str | None) -> str:
    """What the join by key gives."""
    return f"{worker.pay} {name}"


def under(worker: Worker, boss: Worker | None) -> str:
    """What the join by the foreign key gives."""
    return f"{worker.pay} under {boss.pay if boss else None}"


def shown(pay: Pay | None) -> str | None:
    """What the groups give."""
    return f"{pay.workers} {pay.pay}" if pay else None


def raised(context: ProcessContext[str, int], worker: Worker | None) -> list[str]:
    """How often a worker's pay went up."""
    state = context.state or 0
    pay = worker.pay if worker else 0
    context.state = max(state, pay)
    return [f"up to {pay}"] if pay > state else []


class Firm:
    """The pipeline and its parts.

    Args:
        prefix: its name.
    """

    def __init__(self, prefix: str) -> None:
        self.pipeline = Pipeline(prefix)
        self.staff = Topic(f"{prefix}-staff", key=str, value=Worker, partitions=PARTITIONS, retention=FOREVER)
        self.names = Topic(f"{prefix}-names", key=str, value=str, partitions=PARTITIONS, compacted=True)
        self.joined, self.bosses, self.pays, self.raises = (
            Topic(f"{prefix}-{name}", key=str, value=nullable(str), partitions=2, retention=FOREVER)
            for name in ("joined", "bosses", "pays", "raises")
        )
        group = self.pipeline.group("g")
        staff, names = group.table("staff", self.staff), group.table("names", self.names)
        staff.left_join(names, named).to_stream().to(self.joined)
        staff.left_join_foreign("with-boss", staff, boss_of, under).to_stream().to(self.bosses)
        grouped = staff.group_by("by-boss", boss_of).aggregate("pays", Pay, workers=Count(), pay=Sum("pay"))
        grouped.to_stream().map(shown).to(self.pays)
        staff.to_stream().process("raises", raised, state=int).to(self.raises)

    def module(self, folder: Path) -> str:
        """Write a module that declares this pipeline; its path, for workers."""
        path = folder / f"pipeline_{self.pipeline.name}.py"
        path.write_text(f"from tests.broker.firm import Firm\npipeline = Firm({self.pipeline.name!r}).pipeline\n")
        return str(path)

    @staticmethod
    def wanted(staff: Mapping[str, Worker], names: Mapping[str, str]) -> tuple[dict[str, str], ...]:
        """The newest values of joined, bosses and pays: of rows that are there, and of groups with any."""
        people: dict[str, list[int]] = {}
        for worker in staff.values():
            if worker.boss is not None:
                people.setdefault(worker.boss, []).append(worker.pay)
        return (
            {key: named(worker, names.get(key)) for key, worker in staff.items()},
            {key: under(worker, staff.get(worker.boss or "")) for key, worker in staff.items()},
            {boss: f"{len(pays)} {sum(pays)}" for boss, pays in people.items()},
        )
