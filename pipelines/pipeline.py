"""The pipeline: the one value that is checked, drawn, tested and run."""

from penstock.agents.failing.policies import FAIL, Policy
from penstock.agents.location import Location, caller
from penstock.pipelines.group import Group
from penstock.pipelines.topology import Topology
from penstock.tables.checkpoint import Delivery


class Pipeline:
    """A set of consumer groups over typed topics. Declaring one opens no socket, file, thread or event loop.

    >>> pipeline = Pipeline("flights")
    >>> pipeline.group("delays")
    <Group flights.delays>

    Args:
        name: `[a-z][a-z0-9-]*`; every group id and internal topic begins with it.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.location: Location = caller()
        self._groups: list[Group] = []

    def group(self, name: str, *, delivery: Delivery = Delivery.EXACTLY_ONCE, errors: Policy = FAIL) -> Group:
        """Declare a consumer group, PIPELINE.NAME.

        Args:
            name: unique in the pipeline.
            delivery: how often a record's outputs reach the topics that the group writes; its tables are exact either
                way. Default EXACTLY_ONCE: at checkpoints 100 ms apart or more a transaction costs next to nothing.
                AT_LEAST_ONCE lets outputs leave at once, and repeats the latest ones after a crash.
            errors: what becomes of a record that does not decode, does not encode, or makes a function raise:
                `Fail()`, `Skip()`, `DeadLetter()` or `Retry(...)`; streams may say otherwise. Default Fail(): the
                worker stops, nothing is left out unseen.
        """
        group = Group(self, name, caller(), Delivery(delivery), errors)
        self._groups.append(group)
        return group

    @property
    def groups(self) -> tuple[Group, ...]:
        """The groups, in the order of their declaration."""
        return tuple(self._groups)

    @property
    def topology(self) -> Topology:
        """What is declared so far, as a frozen value."""
        return Topology.of(self.name, self.location, self._groups)

    def __repr__(self) -> str:
        return f"<Pipeline {self.name}>"
