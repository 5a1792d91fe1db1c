"""The pipeline that all queries belong to, the topics of the events, and how their time is told."""

from datetime import timedelta

from examples.nexmark.models import Auction, Bid, Person, SideRow
from penstock.pipelines import FOREVER, Pipeline, Topic, Watermark

pipeline = Pipeline("nexmark")

PARTITIONS = 4

persons = Topic("persons", key=int, value=Person, partitions=PARTITIONS, retention=FOREVER)
auctions = Topic("auctions", key=int, value=Auction, partitions=PARTITIONS, retention=FOREVER)
bids = Topic("bids", key=int, value=Bid, partitions=PARTITIONS, retention=FOREVER)  # by auction
side = Topic("side", key=int, value=SideRow, partitions=1, compacted=True)

CLOCK = Watermark(lateness=timedelta(milliseconds=500))
"""Events are so far out of order at most. A record's own time is that of its arrival, so streams read the event's."""


def when(event: Person | Auction | Bid) -> int:
    """The event time."""
    return event.date_time
