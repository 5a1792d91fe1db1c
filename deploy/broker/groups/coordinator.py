"""All groups: which there are, when their time passes, what of them outlives a restart."""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from penstock.deploy.broker.groups.group import Group
from penstock.deploy.broker.groups.offsets import Offsets
from penstock.deploy.broker.groups.subscriptions import subscribed_topics
from penstock.deploy.broker.log import Journal, LogProblem
from penstock.deploy.broker.protocol import Client

log = logging.getLogger(__name__)

OFFSETS_RETENTION_MS = 7 * 86_400_000
"""Kafka's offsets.retention.minutes."""


class _Stored(msgspec.Struct, array_like=True):
    generation: int
    protocol_type: str | None
    emptied_ms: int = -1
    """When the last member went; -1 while there are members."""


class Groups:
    """The groups of this broker.

    Members do not outlive a restart, as their sessions would hardly: they are told UNKNOWN_MEMBER_ID and join again.
    The generation does, so that no number is given out twice and a commit of an old one is refused.

    Args:
        folder: where the journal is.
        clock: seconds that never go back; the event loop's own, for `changed` sets its timers by it.
        expire_on_disconnect: a member is expired as soon as its connection closes, not when its session times out.
        offsets_retention_ms: how long offsets outlive their group's last member (offsets.retention.minutes, 7 days).
        time_of_day: seconds since the epoch.
    """

    def __init__(
        self,
        folder: Path,
        clock: Callable[[], float],
        *,
        expire_on_disconnect: bool = False,
        offsets_retention_ms: int = OFFSETS_RETENTION_MS,
        time_of_day: Callable[[], float] = time.time,
    ) -> None:
        self.journal = Journal(folder / "groups.journal")
        self.offsets = Offsets(self.journal)
        self._clock = clock
        self._expire_on_disconnect = expire_on_disconnect
        self._groups: dict[str, Group] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._stored: dict[str, tuple[int, str | None, bool]] = {}
        self._emptied_ms: dict[str, int] = {}
        self._offsets_retention_ms = offsets_retention_ms
        self._time_of_day = time_of_day
        for key, value in self.journal.items():
            match key:
                case ("group", str(name)):
                    stored = msgspec.msgpack.decode(value, type=_Stored)
                    self._groups[name] = Group(
                        name, clock, generation=stored.generation, protocol_type=stored.protocol_type
                    )
                    self._stored[name] = stored.generation, stored.protocol_type, stored.emptied_ms < 0
                    self._emptied_ms[name] = stored.emptied_ms if stored.emptied_ms >= 0 else self._now_ms()
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
        self._emptied_ms.pop(group.id, None)
        del self._groups[group.id]

    def changed(self, group: Group) -> None:
        """To be called after every call that may have moved a group: keeps its generation and its timer."""
        now = group.generation, group.protocol_type, bool(group.members)
        if group.generation and self._stored.get(group.id) != now and group.id in self._groups:
            try:
                emptied = -1 if group.members else self._now_ms()
                stored = _Stored(group.generation, group.protocol_type, emptied)
                self.journal.append(("group", group.id), msgspec.msgpack.encode(stored))
                self._stored[group.id], self._emptied_ms[group.id] = now, emptied
            except LogProblem as problem:  # members have their answers; it is stored with the group's next change
                log.error("group %s: generation %d is not on disk: %s", group.id, group.generation, problem.message)
        self._arm(group)

    def disconnected(self, client: Client) -> None:
        """A connection was closed."""
        if self._expire_on_disconnect:
            for group in self:
                group.disconnected(client)
                self.changed(group)

    def expire(self) -> None:
        """Forget offsets that nobody came back for, and groups without members and offsets; as Kafka, whose rules are

        - a group that has lost its members: all its offsets, so long after that;
        - one that never had any (offsets committed by hand): each, so long after its commit;
        - one with members that consume: those of topics that none of them subscribes to, so long after their commit;
        - in no case one that an open transaction is about to replace.
        """
        now = self._now_ms()
        for group in self:
            open_ones = self.offsets.unstable(group.id)
            subscribed = subscribed_topics(group) if group.members else None
            if subscribed is not None and not subscribed:
                continue  # not consumers, or about to become so
            emptied = self._emptied_ms.get(group.id, -1) if group.protocol_type is not None else -1
            gone = [
                place
                for place, each in self.offsets.of(group.id).items()
                if place not in open_ones
                and (subscribed is None or place[0] not in subscribed)
                and now - (emptied if subscribed is None and emptied >= 0 else each.at_ms) >= self._offsets_retention_ms
            ]
            self.offsets.delete(group.id, gone)
            if group.idle and not open_ones and not self.offsets.of(group.id):
                self.delete(group)

    def _now_ms(self) -> int:
        return int(self._time_of_day() * 1000)

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
