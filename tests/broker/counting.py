"""A two-stage, two-table pipeline over numbered records, and a second group on the same topic.

Its name is given, so that every test has topics of its own on the shared broker.
"""

from pathlib import Path

import msgspec

from penstock.pipelines import FOREVER, Count, Delivery, Pipeline, Sum, Table, Topic

PARTITIONS = 4
KEYS = 50


class Number(msgspec.Struct, frozen=True):
    """One numbered record."""

    n: int


class Tally(msgspec.Struct, frozen=True):
    """What one key had so far. `last` is the number of the record that made it."""

    count: int
    total: int


class Parity(msgspec.Struct, frozen=True):
    """What one remainder had so far."""

    count: int


def key_of(number: Number, keys: int = KEYS) -> str:
    """Keys spread over all partitions."""
    return f"key-{number.n % keys}"


def remainder(tally: Tally) -> str:
    """A second key, made from the first stage's result."""
    return f"r{tally.total % 3}"


class Counting:
    """The pipeline and its parts.

    Args:
        prefix: its name.
        delivery: of the group `count`.
        keys: how many there are.
    """

    def __init__(self, prefix: str, delivery: Delivery = Delivery.EXACTLY_ONCE, keys: int = KEYS) -> None:
        self.delivery, self.keys = delivery, keys

        def key(number: Number) -> str:
            return key_of(number, keys)

        self.pipeline = Pipeline(prefix)
        self.source = Topic(f"{prefix}-source", key=str, value=Number, partitions=PARTITIONS, retention=FOREVER)
        self.tallies = Topic(f"{prefix}-tallies", key=str, value=Tally, retention=FOREVER)
        self.parities = Topic(f"{prefix}-parities", key=str, value=Parity, retention=FOREVER)
        self.copies = Topic(f"{prefix}-copies", key=str, value=Number, retention=FOREVER)
        count = self.pipeline.group("count", delivery=delivery)
        tallied = (
            count.stream(self.source).group_by("by-key", key).aggregate("tally", Tally, count=Count(), total=Sum("n"))
        )
        tallied.to(self.tallies)
        self.tally_table: Table[str, Tally] = tallied.table
        parity = tallied.group_by("by-remainder", remainder).aggregate("parity", Parity, count=Count())
        parity.to(self.parities)
        self.parity_table: Table[str, Parity] = parity.table
        self.pipeline.group("copy").stream(self.source).to(self.copies)

    def module(self, folder: Path) -> str:
        """Write a module that declares this pipeline; its path, for workers."""
        path = folder / f"pipeline_{self.pipeline.name}.py"
        path.write_text(
            "from tests.broker.counting import Counting\n"
            "from penstock.deploy import faust_app\n"
            "from penstock.pipelines import Delivery\n"
            f"pipeline = Counting({self.pipeline.name!r}, {self.delivery}, {self.keys}).pipeline\n"
            "def __getattr__(name):\n"
            "    if name.startswith('_'):\n"
            "        raise AttributeError(name)\n"
            "    return faust_app(pipeline, name)\n"
        )
        return str(path)
