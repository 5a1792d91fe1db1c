"""The pipeline: the one value that is checked, drawn, tested and run."""

from penstock.agents.location import Location, caller
from penstock.pipelines.group import Group
from penstock.pipelines.topology import Topology


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

    def group(self, name: str) -> Group:
        """Declare a consumer group, PIPELINE.NAME."""
        group = Group(self, name, caller())
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
