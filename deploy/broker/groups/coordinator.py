"""All groups: which there are, when their time passes, what of them outlives a restart."""

import asyncio
import logging
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from penstock.deploy.broker.groups.group import Group
from penstock.deploy.broker.groups.offsets import Offsets
from penstock.deploy.broker.log import Journal, LogProblem
from penstock.deploy.broker.protocol import Client

log = logging.getLogger(__name__)


class Groups:
    """The groups of this broker.

    Members do not outlive a restart, as their sessions would hardly: they are told UNKNOWN_MEMBER_ID and join again.
    The generation does, so that no number is given out twice and a commit of an old one is refused.

    Args:
        folder: where the journal is.
        clock: seconds that never go back; the event loop's own, for `changed` sets its timers by it.
        expire_on_disconnect: a member is expired as soon as its connection closes, not when its session times out.
    """

    def __init__(self, folder: Path, clock: Callable[[], float], *, expire_on_disconnect: bool = False) -> None:
        self.journal = Journal(folder / "groups.journal")
        self.offsets = Offsets(self.journal)
        self._clock = clock
        self._expire_on_disconnect = expire_on_disconnect
        self._groups: dict[str, Group] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._stored: dict[str, tuple[int, str | None]] = {}
        for key, value in self.journal.items():
            match key:
                case ("group", str(name)):
                    generation, kind = msgspec.msgpack.decode(value, type=tuple[int, str | None])
                    self._groups[name] = Group(name, clock, generation=generation, protocol_type=kind)
                    self._stored[name] = generation, kind
        for name in self.offsets.groups():
            self.get_or_create(name)

    def __iter__(self) -> Iterator[Group]:
        return iter(list(self._groups.values()))

    def get(self, name: str) -> Group | None:
        return self._groups.get(name)

    def get_or_create(self, name: str) -> Group:
        group = self._groups.get(name)
        if group is None:
            group = self._groups[name] = Group(name, self._clock)
        return group

    def delete(self, group: Group) -> None:
        """The group, which has no members, and its offsets."""
        self.offsets.delete_group(group.id)
        self._stored.pop(group.id, None)
        del self._groups[group.id]

    def changed(self, group: Group) -> None:
        """To be called after every call that may have moved a group: keeps its generation and its timer."""
        now = group.generation, group.protocol_type
        if group.generation and self._stored.get(group.id) != now and group.id in self._groups:
            try:
                self.journal.append(("group", group.id), msgspec.msgpack.encode(now))
                self._stored[group.id] = now
            except LogProblem as problem:  # members have their answers; it is stored with the group's next change
                log.error("group %s: generation %d is not on disk: %s", group.id, group.generation, problem.message)
        self._arm(group)

    def disconnected(self, client: Client) -> None:
        """A connection was closed."""
        if self._expire_on_disconnect:
            for group in self:
                group.disconnected(client)
                self.changed(group)

    def close(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
        self.journal.close()

    def _arm(self, group: Group) -> None:
        """One timer for each group. A heartbeat moves the deadline away: the timer then finds nothing due, and is set
        again, which is cheaper than to set it at every heartbeat."""
        deadline = group.next_deadline
        timer = self._timers.get(group.id)
        if timer is not None:
            if timer.when() <= deadline:
                return
            timer.cancel()
        if deadline == math.inf:
            self._timers.pop(group.id, None)
        else:
            self._timers[group.id] = asyncio.get_running_loop().call_at(deadline, self._due, group)

    def _due(self, group: Group) -> None:
        self._timers.pop(group.id, None)
        group.tick()
        self.changed(group)
