"""Count windows at work: every so many records of a key."""

from typing import Any, cast

from penstock.agents.block import Block
from penstock.agents.event_time.clocks import StreamClock
from penstock.agents.keyed.row_keys import row_keys
from penstock.agents.operators import Runtime
from penstock.agents.windows.steps import WindowAggregate
from penstock.agents.windows.windowing import WindowOperator
from penstock.tables.indexed import IndexedPartition
from penstock.tables.timed import NEVER
from penstock.tables.windowed import bounds, unpack
from penstock.tables.windows import CountWindow

OPEN = bounds(0, 0)
"""What the row of a key's open window begins with: its bounds are not known before it is full."""


class CountOperator(WindowOperator):
    """Count windows. They have no clock: nothing is late.

    The index has, for each key, how many records are in its open window, and the lowest event time of them.
    """

    def __init__(self, where: str, runtime: Runtime, step: WindowAggregate) -> None:
        super().__init__(where, runtime, step, StreamClock())
        assert isinstance(step.window, CountWindow)
        self.size = step.window.size

    def run(self, block: Block) -> None:
        row_keys(self, block)
        block, stamps = self.in_time(block)
        keys: list[bytes] = block.raw_keys()  # type: ignore[assignment]  # none of them is null
        part = cast(IndexedPartition, self.part(block.batch.partition))
        distinct = set(keys)
        index, rows = part.load_index(distinct), part.load([OPEN + key for key in distinct])
        states: dict[Any, Any] = {}
        current: dict[bytes, list[int]] = {}  # key -> number of its window here, records, lowest and highest time
        into: list[Any] = []
        full: list[tuple[int, Any, bytes]] = []
        for row, (key, stamp) in enumerate(zip(keys, stamps, strict=True)):
            at = current.get(key)
            if at is None:
                count, low = index[key] or (0, stamp)
                at = current[key] = [0, count, low, part.stamps.get(OPEN + key, NEVER)]
                states[key, 0] = rows[OPEN + key]
            window = key, at[0]
            into.append(window)
            at[1], at[2], at[3] = at[1] + 1, min(at[2], stamp), max(at[3], stamp)
            if at[1] == self.size:
                full.append((row, window, bounds(at[2], at[3]) + key))
                current[key] = at = [at[0] + 1, 0, 2**63 - 1, NEVER]
                states[key, at[0]] = None
        self.fold(block, states, into, None)
        self._keep(part, current, states)
        self._send(block, states, [each for each in full if states[each[1]] is not None])

    def _keep(self, part: IndexedPartition, current: dict[bytes, list[int]], states: dict[Any, Any]) -> None:
        for key, (number, count, low, high) in current.items():
            row = OPEN + key
            part.rows[row] = states[key, number]
            if count:
                part.stamps[row], part.index[key] = high, [count, low]
            else:
                part.stamps.pop(row, None)
                part.index[key] = []
        part.touch([OPEN + key for key in current])
        part.reindex(current)

    def _send(self, block: Block, states: dict[Any, Any], full: list[tuple[int, Any, bytes]]) -> None:
        if full:
            results = []
            for row, window, _ in full:
                try:
                    results.append(self.aggregation.view(states[window]))
                except Exception as exc:
                    raise self.raised(block, row, exc) from exc
            names, at = [name for _, _, name in full], [row for row, _, _ in full]
            self.send(block, names, results, [unpack(name)[1] for name in names], at)
