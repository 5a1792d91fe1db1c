"""Query 4: the mean winning bid of each category. A function keeps each auction's bids until a timer closes it."""

from collections.abc import Iterable

import msgspec

from examples.nexmark.models import LONGEST, Auction, Bid, CategoryPrice, Sale
from examples.nexmark.topics import CLOCK, PARTITIONS, auctions, bids, pipeline, when
from penstock.pipelines import FOREVER, Mean, ProcessContext, Stream, Topic

category_prices = Topic("q4", key=int, value=CategoryPrice, partitions=PARTITIONS, retention=FOREVER)


class Bidding(msgspec.Struct):
    """An auction, once it is known, and the bids for it: time and price."""

    auction: Auction | None
    bids: list[tuple[int, int]]


def event(given: Auction | Bid) -> Auction | Bid:
    """One type for both."""
    return given


def take(context: ProcessContext[int, Bidding], given: Auction | Bid) -> Iterable[Sale]:
    """Bids may come before the auction that they are for. All bids are there once time is past its expiry."""
    known = context.state
    if known is None:
        context.state = known = Bidding(None, [])
    if isinstance(given, Auction):
        known.auction = given
        context.set_timer(given.expires + 1)
    else:
        known.bids.append((given.date_time, given.price))
        context.set_timer(given.date_time + LONGEST + 1)
    return ()


def close(context: ProcessContext[int, Bidding]) -> Iterable[Sale]:
    """The auction is over, or was when the last bids came; or a bid is too old for any."""
    known = context.state
    if known is None:
        return []
    auction = known.auction
    if auction is None:
        known.bids = [bid for bid in known.bids if bid[0] + LONGEST >= context.timestamp]
        context.state = known if known.bids else None
        return []
    if context.timestamp <= auction.expires:
        return []
    context.state = None
    prices = [price for time, price in known.bids if auction.date_time <= time <= auction.expires]
    return [Sale(auction.id, auction.category, auction.seller, auction.expires, max(prices))] if prices else []


def category(sale: Sale) -> int:
    """What is sold."""
    return sale.category


q4 = pipeline.group("q4")
offers: Stream[int, Auction | Bid] = q4.stream(auctions, time=when, clock=CLOCK).map(event)
offered: Stream[int, Auction | Bid] = q4.stream(bids, time=when, clock=CLOCK).map(event)
(
    offers.merge(offered)
    .process("bidding", take, state=Bidding, on_timer=close, value=Sale)
    .group_by("by-category", category)
    .aggregate("prices", CategoryPrice, price=Mean("price"))
    .to(category_prices)
)
