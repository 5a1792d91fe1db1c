"""Stores that a worker closes: in threads, a few at a time, while its event loop goes on."""

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from faust.exceptions import ConsumerNotStarted
from faust.types import TP

from penstock.agents.group import CLOSED_AT_ONCE, GroupRuntime
from penstock.deploy import faust_app
from penstock.pipelines import Pipeline, Topic
from penstock.tables.store import StoreError

CHANGELOG = "p.g-rows-changelog"
DEADLINE = 90.0  # s


class Gate:
    """In the place of an open store: what happens before that is closed."""

    def __init__(self, store: Any, before: Callable[[], None]) -> None:
        self._store, self._before = store, before

    def close(self) -> None:
        try:
            self._before()
        finally:
            self._store.close()


def app_with(tmp_path: Path, partitions: int) -> Any:
    """A worker with so many open stores."""
    pipeline = Pipeline("p")
    group = pipeline.group("g")
    group.table("rows", Topic("in", key=str, value=str))
    group.table("read", Topic("kept", key=str, value=str, config={"cleanup.policy": "compact"}))
    everywhere = group.global_table("everywhere", Topic("all", key=str, value=str, compacted=True))
    group.stream(Topic("joining", key=str, value=str)).join_global(everywhere, str.lower, lambda value, row: value)
    app = faust_app(pipeline, "g", broker="127.0.0.1:1", data=tmp_path)
    app.runtime.partitions = {CHANGELOG: partitions, "kept": partitions, "all": partitions}
    for partition in range(partitions):
        app.runtime.part("rows", partition)
    return app


def gated(runtime: GroupRuntime, before: Callable[[int], None]) -> None:
    for part in runtime.parts():
        part.store = Gate(part.store, lambda number=part.partition: before(number))  # type: ignore[assignment]


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


def test_the_event_loop_goes_on_while_stores_are_closed(tmp_path: Path) -> None:
    """It is what lets the stores go here: if it stood still, they would wait in vain."""

    async def main() -> None:
        runtime: GroupRuntime = app_with(tmp_path, 2 * CLOSED_AT_ONCE).runtime
        inside, let_go, waited = set[int](), threading.Event(), list[bool]()

        def before(partition: int) -> None:
            inside.add(partition)
            waited.append(let_go.wait(DEADLINE))

        gated(runtime, before)
        closing = asyncio.ensure_future(runtime.stop())
        await until(lambda: len(inside) == CLOSED_AT_ONCE)
        assert not runtime.opened("rows", 0)
        opening = asyncio.ensure_future(asyncio.to_thread(runtime.prepare, "rows", min(inside)))
        assert not (await asyncio.wait({opening}, timeout=0.2))[0], "it was opened, or tried to, before it was closed"
        assert len(inside) == CLOSED_AT_ONCE
        let_go.set()
        await closing
        assert waited == [True] * 2 * CLOSED_AT_ONCE
        (await opening).close()

    asyncio.run(main())


def test_a_store_that_is_not_closed_well_is_told_of_and_the_others_are_closed(tmp_path: Path) -> None:
    async def main() -> None:
        runtime: GroupRuntime = app_with(tmp_path, 3).runtime

        def before(partition: int) -> None:
            if partition == 1:
                raise StoreError("rows-1", "the disk is full", "Make room")

        gated(runtime, before)
        with pytest.raises(StoreError, match="rows-1: the disk is full"):
            await runtime.close()
        assert not list(runtime.parts())
        for partition in range(3):
            assert runtime.part("rows", partition).position == 0
        await runtime.stop()

    asyncio.run(main())


def test_stores_are_not_closed_while_another_thread_has_one(tmp_path: Path) -> None:
    async def main() -> None:
        runtime: GroupRuntime = app_with(tmp_path, 1).runtime
        first, second, order = threading.Event(), threading.Event(), list[str]()

        def work(event: threading.Event, name: str) -> None:
            assert event.wait(DEADLINE)
            order.append(name)

        async def twice() -> None:
            await runtime.in_thread(work, first, "first")
            await runtime.in_thread(work, second, "second")

        gated(runtime, lambda partition: order.append("closed"))
        working, closing = asyncio.ensure_future(twice()), asyncio.ensure_future(runtime.close())
        first.set()
        await until(lambda: order == ["first"] and len(runtime.busy) == 1)
        second.set()
        await asyncio.gather(working, closing)
        assert order == ["first", "second", "closed"]

    asyncio.run(main())


def test_a_rebalance_closes_what_is_gone(tmp_path: Path) -> None:
    async def main() -> None:
        app = app_with(tmp_path, 2)
        runtime: GroupRuntime = app.runtime
        for partition in range(2):
            runtime.part("read", partition)
            runtime.table(app.spec.everywhere[0], partition)
        with pytest.raises(ConsumerNotStarted):  # Faust's part, which comes then
            await app.tables.on_rebalance({TP(CHANGELOG, 1), TP("kept", 0)}, set(), set(), 7)
        open_now = {(part.spec.name, part.partition) for part in runtime.parts()}
        assert open_now == {("rows", 1), ("read", 0), ("everywhere", 0), ("everywhere", 1)}
        await runtime.stop()

    asyncio.run(main())
