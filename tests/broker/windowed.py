"""A pipeline of windows over topics of its own: regrouped and counted, once closed."""

from datetime import timedelta
from pathlib import Path

from penstock.pipelines import FOREVER, OnClose, Pipeline, Session, Topic, Tumbling, Watermark, Windowed

PARTITIONS = 3
SIZE, GAP = 1000, 100
"""ms"""


def name(value: str) -> str:
    """The key that records are regrouped by."""
    return value


class Windows:
    """The pipeline and its parts.

    Args:
        prefix: its name.
    """

    def __init__(self, prefix: str) -> None:
        self.pipeline = Pipeline(prefix)
        self.clicks = Topic(f"{prefix}-clicks", key=str, value=str, partitions=PARTITIONS, retention=FOREVER)
        self.counts = Topic(f"{prefix}-counts", key=Windowed[str], value=int, retention=FOREVER)
        self.sessions = Topic(f"{prefix}-sessions", key=Windowed[str], value=int, retention=FOREVER)
        group = self.pipeline.group("g")
        clock = Watermark(idle=timedelta(seconds=10))  # longer than the test's producer may be held up
        clicks = group.stream(self.clicks, clock=clock).group_by("by-name", name)
        clicks.window(Tumbling(timedelta(milliseconds=SIZE))).count("counts", emit=OnClose()).to(self.counts)
        clicks.window(Session(timedelta(milliseconds=GAP))).count("visits", emit=OnClose()).to(self.sessions)

    def module(self, folder: Path) -> str:
        """Write a module that declares this pipeline; its path, for workers."""
        path = folder / f"pipeline_{self.pipeline.name}.py"
        text = f"from tests.broker.windowed import Windows\npipeline = Windows({self.pipeline.name!r}).pipeline\n"
        path.write_text(text)
        return str(path)
