"""Bodies of agents that raise while they hold records."""

from collections.abc import AsyncIterator

import pytest

from penstock.pipelines import (
    AgentStream,
    DeadLetter,
    Pipeline,
    RecordError,
    Skip,
    Topic,
    TopologyDriver,
)
from tests.unit.threes import not_3, numbers, results


@pytest.mark.parametrize("batch", [1, 2, 1000])
def test_a_body_goes_on_behind_the_record_it_failed_at(batch: int) -> None:
    pipeline = Pipeline("p")
    group = pipeline.group("g", errors=DeadLetter())
    began: list[int] = []

    @group.agent(numbers, to=results)
    async def body(stream: AgentStream[str, int]) -> AsyncIterator[int]:
        began.append(1)
        async for n in stream:
            yield not_3(n)

    with TopologyDriver(pipeline, partitions=1, batch=batch) as driver:
        driver.send_all(numbers, [("k", n) for n in (3, 1, 3, 3, 2, 3)])
        driver.send_raw(numbers, b"x", key="k")
        assert driver.values(results) == [1, 2]
        letters = driver.broker.topics["p.g-dead-letters"][0]
        assert sorted(int(dict(row[3])["penstock.offset"] or 0) for row in letters) == [0, 2, 3, 5, 6]
    assert len(began) == 4  # a new one begins where records are left


@pytest.mark.parametrize("way", ["items", "events", "take", "batches"])
def test_what_a_body_holds_fails_together(way: str) -> None:
    by_int = Topic("by-int", key=int, value=int)
    pipeline = Pipeline("p")
    group = pipeline.group("g", errors=Skip())
    seen: list[list[int]] = []

    @group.agent(by_int)
    async def body(stream: AgentStream[int, int]) -> None:
        held: list[int]
        async for each in getattr(stream, way)(*([2] if way == "take" else [])):
            match way:
                case "items":
                    held = [each[1]]
                case "events":
                    held = [each.value]
                case "take":
                    held = list(each)
                case _:
                    held = each.values
            for n in held:
                not_3(n)
            seen.append(held)

    as_written = Topic("by-int", key=bytes, value=int)
    with TopologyDriver(pipeline, partitions=1, batch=4) as driver:
        for n in (1, 3, 2, 4, 5, 6):
            driver.send(as_written, n, key=b"K" if n == 5 else b"7")
        driver.process()
        lost = sum(driver.skipped("g").values())
    wanted = {
        "items": [[1], [2], [4], [6]],
        "events": [[1], [2], [4], [6]],
        "take": [[2, 4], [5, 6]],  # keys are not read
        "batches": [[6]],
    }
    assert seen == wanted[way]
    assert lost == 6 - sum(map(len, wanted[way]))


def test_a_body_that_fails_before_its_first_record_stops_the_worker() -> None:
    pipeline = Pipeline("p")
    group = pipeline.group("g", errors=Skip())

    @group.agent(numbers)
    async def body(stream: AgentStream[str, int]) -> None:
        raise ConnectionError("no database")

    with TopologyDriver(pipeline, partitions=1) as driver:
        driver.send(numbers, 1, key="k")
        with pytest.raises(RecordError, match="no database"):
            driver.process()
