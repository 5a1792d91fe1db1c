"""A pipeline with one table of each kind, over topics of its own."""

from datetime import timedelta
from pathlib import Path

from penstock.pipelines import FOREVER, AgentStream, Pipeline, Topic

PARTITIONS = 3


TTL = timedelta(hours=1)


def add(total: int, n: int) -> int:
    """A running sum."""
    return total + n


def joined(n: int, name: str | None) -> str:
    """What the joins give."""
    return f"{n}:{name}"


def carrier(n: int) -> str:
    """The key that the global join looks up."""
    return f"c{n % 7}"


class Kinds:
    """The pipeline and its parts.

    Args:
        prefix: its name.
    """

    def __init__(self, prefix: str) -> None:
        self.pipeline = Pipeline(prefix)
        self.names = Topic(f"{prefix}-names", key=str, value=str, partitions=PARTITIONS, compacted=True)
        self.numbers = Topic(f"{prefix}-numbers", key=str, value=int, partitions=PARTITIONS, retention=FOREVER)
        self.results = Topic(f"{prefix}-results", key=str, value=str, retention=FOREVER)
        straight = self.pipeline.group("straight")
        self.table = straight.table("names", self.names)
        straight.stream(self.numbers).left_join(self.table, joined).to(self.results)
        everywhere = self.pipeline.group("everywhere")
        self.carriers = Topic(f"{prefix}-carriers", key=str, value=str, partitions=5, compacted=True)
        self.global_table = everywhere.global_table("carriers", self.carriers)
        everywhere.stream(self.numbers).left_join_global(self.global_table, carrier, joined).to(self.results)

        expiring = self.pipeline.group("expiring")
        totals = expiring.stream(self.numbers).reduce("totals", add, ttl=TTL)
        self.totals = totals.table
        totals.map(str).to(self.results)

        sets = self.pipeline.group("sets")
        self.sets = seen = sets.set_table("seen", key=str, value=int)

        @sets.agent(self.numbers)
        async def collect(stream: AgentStream[str, int]) -> None:
            async for key, number in stream.items():
                if number < 0:
                    seen.discard(key, -number)
                else:
                    seen.add(key, number)

    def module(self, folder: Path) -> str:
        """Write a module that declares this pipeline; its path, for workers."""
        path = folder / f"pipeline_{self.pipeline.name}.py"
        path.write_text(f"from tests.broker.kinds import Kinds\npipeline = Kinds({self.pipeline.name!r}).pipeline\n")
        return str(path)
