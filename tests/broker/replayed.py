"""A pipeline of windows behind a repartition topic, and a month of clicks on partitions of very different sizes."""

import random
from datetime import timedelta
from pathlib import Path

from penstock.pipelines import FOREVER, OnClose, Pipeline, Session, Topic, Tumbling, Watermark, Windowed

PARTITIONS = 3
IDLE = timedelta(seconds=3)
LATENESS = timedelta(minutes=10)
HOUR_MS = 3_600_000
MONTH_MS = 30 * 24 * HOUR_MS
SIZES = 30_000, 3_000, 300
"""Clicks of each partition: one is read to its end long after the others."""


def name(value: str) -> str:
    """The key that clicks are regrouped by."""
    return value


def clicks(start: int) -> list[list[tuple[str, int]]]:
    """(user, event time in ms) of each partition, in the order in which they came: up to the lateness out of order."""
    rng = random.Random(30)
    late = LATENESS // timedelta(milliseconds=1)
    found = []
    for size in SIZES:
        came = sorted(start + rng.randrange(MONTH_MS) for _ in range(size))
        found.append([(rng.choice("abcde"), at - rng.randrange(late)) for at in came])
    return found


class Replayed:
    """The pipeline and its parts.

    Args:
        prefix: its name.
    """

    def __init__(self, prefix: str) -> None:
        self.pipeline = Pipeline(prefix)
        self.clicks = Topic(f"{prefix}-clicks", key=str, value=str, partitions=PARTITIONS, retention=FOREVER)
        self.counts = Topic(f"{prefix}-counts", key=Windowed[str], value=int, retention=FOREVER)
        self.visits = Topic(f"{prefix}-visits", key=Windowed[str], value=int, retention=FOREVER)
        self.late = Topic(f"{prefix}-late", key=str, value=str, retention=FOREVER)
        group = self.pipeline.group("g")
        users = group.stream(self.clicks, clock=Watermark(lateness=LATENESS, idle=IDLE)).group_by("by-name", name)
        counted = users.window(Tumbling(timedelta(hours=1))).count("counts", emit=OnClose())
        visits = users.window(Session(timedelta(minutes=5))).count("visits", emit=OnClose())
        counted.to(self.counts)
        visits.to(self.visits)
        counted.late.to(self.late)
        visits.late.to(self.late)

    def module(self, folder: Path) -> str:
        """Write a module that declares this pipeline; its path, for workers."""
        path = folder / f"pipeline_{self.pipeline.name}.py"
        text = f"from tests.broker.replayed import Replayed\npipeline = Replayed({self.pipeline.name!r}).pipeline\n"
        path.write_text(text)
        return str(path)
