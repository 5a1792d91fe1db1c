"""Records that come as they happen, and the same as a backlog long after: their windows are the same."""

from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.pipelines import (
    Hopping,
    OnClose,
    Pipeline,
    Session,
    Sliding,
    Topic,
    TopologyDriver,
    Tumbling,
    Watermark,
    Windowed,
)

PARTITIONS = 3
START = datetime(2024, 3, 1, tzinfo=UTC)
GRACE, LATENESS, IDLE = 2_000, 3_000, 5_000
"""ms"""
clicks = Topic("clicks", key=str, value=str, partitions=PARTITIONS)
counts = Topic("counts", key=Windowed[str], value=int)
lates = Topic("lates", key=str, value=str)


def ms(n: int) -> timedelta:
    return timedelta(milliseconds=n)


class Click(NamedTuple):
    """One that comes `gap` ms after the one before, wherever that was, `delay` ms after it happened."""

    partition: int
    gap: int
    delay: int
    user: str


def user(click: str) -> str:
    return click


def counted(window: Any, *, rekeyed: bool) -> Pipeline:
    clock = Watermark(lateness=ms(LATENESS), idle=ms(IDLE))
    stream: Any = Pipeline("p").group("g").stream(clicks, clock=clock)
    windows = (stream.group_by("by-user", user) if rekeyed else stream).window(window)
    result = windows.count("counts", emit=OnClose())
    result.to(counts)
    result.late.to(lates)
    return result.group.pipeline  # type: ignore[no-any-return]


def outcome(driver: TopologyDriver) -> tuple[list[Any], list[str]]:
    """Its windows once everything is quiet, and what was late."""
    for _ in range(3):  # the source, then what is behind the repartition topic
        driver.advance(ms(IDLE + LATENESS + 60_000))
        driver.process()
    return sorted((r.key, r.value) for r in driver.read(counts)), driver.values(lates)


CLICKS = st.lists(
    st.builds(
        Click,
        st.integers(0, PARTITIONS - 1),
        st.one_of(st.integers(0, 1_500), st.sampled_from([4_000, 9_000, 30_000])),
        st.integers(0, GRACE + LATENESS),
        st.sampled_from("ab"),
    ),
    min_size=1,
    max_size=30,
)
WINDOWS = [
    Tumbling(ms(4_000), grace=ms(GRACE)),
    Hopping(ms(6_000), ms(2_000), grace=ms(GRACE)),
    Session(ms(1_500), grace=ms(GRACE)),
    Sliding(ms(2_500), grace=ms(GRACE)),
]


@pytest.mark.parametrize("window", WINDOWS, ids=lambda window: type(window).__name__)
@settings(max_examples=40, deadline=None)
@given(
    came=CLICKS,
    rekeyed=st.booleans(),
    at_once=st.integers(1, 4),
    batch=st.sampled_from([1, 2, 1000]),
    order=st.permutations(range(PARTITIONS)),
    share=st.integers(1, 30),
    rescaled=st.booleans(),
)
def test_a_replay_gives_the_windows_that_came_live(
    window: Any,
    came: list[Click],
    rekeyed: bool,
    at_once: int,
    batch: int,
    order: list[int],
    share: int,
    rescaled: bool,
) -> None:
    happened: list[list[tuple[int, str]]] = [[] for _ in range(PARTITIONS)]
    with TopologyDriver(counted(window, rekeyed=rekeyed), partitions=PARTITIONS, start=START) as live:
        for number, click in enumerate(came):
            live.advance(ms(click.gap))
            stamp = round(live.now.timestamp() * 1000) - click.delay
            live.send(clicks, click.user, key="k", timestamp=stamp, partition=click.partition)
            happened[click.partition].append((stamp, click.user))
            if number % at_once == 0:
                live.process()
        windows, late = outcome(live)
    assert late == []

    later = START + timedelta(days=30)
    with TopologyDriver(counted(window, rekeyed=rekeyed), partitions=PARTITIONS, start=later, batch=batch) as replay:
        while any(happened):
            for partition in order:  # each in its turn some records, so that the first are far ahead
                some = happened[partition][:share]
                del happened[partition][:share]
                for stamp, name in some:
                    replay.send(clicks, name, key="k", timestamp=stamp, partition=partition)
                replay.process()
                replay.advance(ms(100))
            if rescaled:
                replay.rescale("g", 2)
        assert outcome(replay) == (windows, [])
