"""Tables of sets: a row for each member."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from penstock.pipelines import AgentStream, Group, Pipeline, SetTable, Topic, TopologyDriver, TopologyError, check
from penstock.pipelines.describing import describe, text

Make = Callable[..., TopologyDriver]

words = Topic("words", key=str, value=str)


@pytest.fixture
def group() -> Group:
    return Pipeline("p").group("g")


def collected(group: Group, ttl: timedelta | None = None) -> SetTable[str, str]:
    """`word` adds, `-word` takes out."""
    table = group.set_table("words", key=str, value=str, ttl=ttl)

    @group.agent(words)
    async def body(stream: AgentStream[str, str]) -> None:
        async for key, word in stream.items():
            if word.startswith("-"):
                table.discard(key, word[1:])
            else:
                table.add(key, word)

    return table


@pytest.mark.parametrize("restart", [None, "crash", "rebalance"])
@pytest.mark.parametrize("batch", [1, 3, 1000])
def test_members_come_and_go(batch: int, restart: str | None, group: Group, topology_driver: Make) -> None:
    table = collected(group)
    driver = topology_driver(group.pipeline, partitions=3, batch=batch)
    wanted: dict[str, set[str]] = {}
    for round_ in range(3):
        for n in range(30):
            key, word = f"k{n % 4}", f"w{(n * 7 + round_) % 5}"
            if (n + round_) % 3:
                driver.send(words, word, key=key)
                wanted.setdefault(key, set()).add(word)
            else:
                driver.send(words, f"-{word}", key=key)
                wanted.setdefault(key, set()).discard(word)
        driver.process()
        if restart:
            getattr(driver, restart)("g")
    assert driver.table(table) == {key: members for key, members in wanted.items() if members}


def test_adding_a_member_writes_that_member_alone(group: Group, topology_driver: Make) -> None:
    table = collected(group)
    driver = topology_driver(group.pipeline, partitions=1)
    for n in range(500):
        driver.send(words, f"w{n}", key="large")
    driver.process()
    before = len(driver.broker.topics["p.g-words-changelog"][0])
    driver.send(words, "one more", key="large")
    driver.process()
    changelog = driver.broker.topics["p.g-words-changelog"][0]
    assert [row[:2] for row in changelog[before:]] == [(b"\x00\x00\x00\x05largeone more", b"\x01")]
    driver.send(words, "-nothing", key="large")
    driver.process()
    assert len(changelog) == before + 1
    assert len(driver.table(table)["large"]) == 501


def test_the_sets_of_a_body(group: Group, topology_driver: Make) -> None:
    """No key is taken for the beginning of another."""
    table = group.set_table("sets", key=str, value=int)
    told: list[Any] = []

    @group.agent(words)
    async def body(stream: AgentStream[str, str]) -> None:
        async for _ in stream:
            for key, member in (("a", 2), ("a", 1), ("", 3), ("ab", 4), ("a", 1)):
                table.add(key, member)
            told.append([list(table.members(key)) for key in ("a", "", "ab", "none")])
            told.append((table.contains("a", 1), table.contains("a", 4), table.contains("b", 4)))
            table.discard("a", 1)
            table.discard("a", 7)
            told.append(list(table.items()))
            with pytest.raises(TypeError, match="do not expire; declare it with ttl="):
                table.add("a", 1, ttl=timedelta(1))

    driver = topology_driver(group.pipeline, partitions=1)
    driver.send(words, "x", key="k")
    driver.process()
    assert told == [[[1, 2], [3], [4], []], (True, False, False), [("", 3), ("a", 2), ("ab", 4)]]


@pytest.mark.parametrize("restart", ["crash", "rebalance"])
def test_each_member_expires_by_itself(restart: str, group: Group, topology_driver: Make) -> None:
    table = collected(group, timedelta(milliseconds=10))
    driver = topology_driver(group.pipeline, partitions=1)
    for word, stamp in (("a", 0), ("b", 5), ("a", 6), ("c", 15)):
        driver.send(words, word, key="k", timestamp=stamp)
        driver.process()
        getattr(driver, restart)("g")
    assert driver.table(table) == {"k": {"a", "c"}}


def test_what_check_says(group: Group, topology_driver: Make) -> None:
    table = collected(group)
    group.set_table("nothing", key=None, value=object)  # type: ignore[arg-type]
    group.stream(words).join(table, lambda word, row: word)  # type: ignore[arg-type]
    found = [(problem.rule, problem.what, problem.advice) for problem in check(group.pipeline.topology)]
    assert ("codec", "table 'nothing' has no codec for its keys") in [told[:2] for told in found]
    assert ("table", "table 'words' is one of sets", "read it in the body of an agent") in found
    with pytest.raises(TopologyError, match="no codec for its keys"):
        topology_driver(group.pipeline)


def test_it_is_described(group: Group) -> None:
    collected(group)
    described = describe(group.pipeline.topology)
    assert "set table words: str -> str, changelog p.g-words-changelog" in text(described)
    assert '"kind": "set"' in described.json()
