"""The queries as pipelines: a consumer group for each, over the same topics. Here are those that look at one record at
a time; `windowed`, `joined` and `winning` have the others, of the same pipeline."""

from examples.nexmark import joined, windowed, winning
from examples.nexmark.models import EUROS_PER_THOUSAND, SELECTED, AuctionPrice, Bid, SideBid, SideRow
from examples.nexmark.topics import PARTITIONS, bids, pipeline, side
from penstock.pipelines import FOREVER, Topic

__all__ = ["bids", "joined", "pipeline", "side", "windowed", "winning"]

SIDE_ROWS = 20

copies = Topic("q0", key=int, value=Bid, partitions=PARTITIONS, retention=FOREVER)
in_euros = Topic("q1", key=int, value=Bid, partitions=PARTITIONS, retention=FOREVER)
selected = Topic("q2", key=int, value=AuctionPrice, partitions=PARTITIONS, retention=FOREVER)
with_side = Topic("q13", key=int, value=SideBid, partitions=PARTITIONS, retention=FOREVER)

# ---- 0: every bid

pipeline.group("q0").stream(bids).to(copies)

# ---- 1: dollars to euros


def euros(bid: Bid) -> Bid:
    """The bid with its price in euros, rounded down to a cent."""
    price = bid.price * EUROS_PER_THOUSAND // 1000
    return Bid(bid.auction, bid.bidder, price, bid.channel, bid.date_time)


pipeline.group("q1").stream(bids).map(euros).to(in_euros)

# ---- 2: chosen auctions


def is_selected(bid: Bid) -> bool:
    """A multiple of a number stands for a list of ids."""
    return bid.auction % SELECTED == 0


def price_of(bid: Bid) -> AuctionPrice:
    """What query 2 wants to know."""
    return AuctionPrice(bid.auction, bid.price)


pipeline.group("q2").stream(bids).filter(is_selected).map(price_of).to(selected)

# ---- 13: a bounded side input


def side_key(bid: Bid) -> int:
    """The row of the side table that goes with a bid."""
    return bid.auction % SIDE_ROWS


def with_text(bid: Bid, row: SideRow) -> SideBid:
    """The bid with the row's text."""
    return SideBid(bid.auction, bid.bidder, bid.price, bid.date_time, row.text)


q13 = pipeline.group("q13")
side_rows = q13.global_table("side", side)
q13.stream(bids).join_global(side_rows, side_key, with_text).to(with_side)
