"""A pipeline that joins two topics of its own, one of them regrouped."""

from datetime import timedelta
from pathlib import Path

from penstock.pipelines import FOREVER, JoinWindow, Pipeline, Topic, Watermark

PARTITIONS = 3
BEFORE, AFTER, GRACE = 200, 500, 100
"""ms"""


def name(value: str) -> str:
    """The key that the right side is regrouped by."""
    return value.partition(":")[0]


def pair(left: str | None, right: str | None) -> str:
    """Both, as a text."""
    return f"{left} {right}"


class Joined:
    """The pipeline and its parts.

    Args:
        prefix: its name.
    """

    def __init__(self, prefix: str) -> None:
        self.pipeline = Pipeline(prefix)
        self.lefts = Topic(f"{prefix}-lefts", key=str, value=str, partitions=PARTITIONS, retention=FOREVER)
        self.rights = Topic(f"{prefix}-rights", key=str, value=str, partitions=PARTITIONS, retention=FOREVER)
        self.pairs = Topic(f"{prefix}-pairs", key=str, value=str, retention=FOREVER)
        group = self.pipeline.group("g")
        clock = Watermark(idle=timedelta(seconds=10))  # longer than the test's producer may be held up
        rights = group.stream(self.rights, clock=clock).group_by("by-name", name)
        before, after, grace = (timedelta(milliseconds=ms) for ms in (BEFORE, AFTER, GRACE))
        within = JoinWindow(before=before, after=after, grace=grace)
        group.stream(self.lefts, clock=clock).outer_join(rights, pair, within=within, name="near").to(self.pairs)

    def module(self, folder: Path) -> str:
        """Write a module that declares this pipeline; its path, for workers."""
        path = folder / f"pipeline_{self.pipeline.name}.py"
        text = f"from tests.broker.joined import Joined\npipeline = Joined({self.pipeline.name!r}).pipeline\n"
        path.write_text(text)
        return str(path)
