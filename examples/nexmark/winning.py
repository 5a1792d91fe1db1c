"""The queries about winning bids: 4, their mean by category, and 6, that of each seller's last ten. A function keeps
each auction's bids until a timer closes it."""

from collections.abc import Iterable

import msgspec

from examples.nexmark.models import LAST_AUCTIONS, LONGEST, Auction, Bid, CategoryPrice, Sale, SellerPrice
from examples.nexmark.topics import CLOCK, PARTITIONS, auctions, bids, pipeline, when
from penstock.pipelines import FOREVER, Group, Mean, ProcessContext, Stream, Topic

category_prices = Topic("q4", key=int, value=CategoryPrice, partitions=PARTITIONS, retention=FOREVER)
seller_prices = Topic("q6", key=int, value=SellerPrice, partitions=PARTITIONS, retention=FOREVER)


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


def sold(group: Group) -> Stream[int, Sale]:
    """The auctions that somebody won, at the ms behind their expiry."""
    offers: Stream[int, Auction | Bid] = group.stream(auctions, time=when, clock=CLOCK).map(event)
    offered: Stream[int, Auction | Bid] = group.stream(bids, time=when, clock=CLOCK).map(event)
    return offers.merge(offered).process("bidding", take, state=Bidding, on_timer=close, value=Sale)


# ---- 4: mean winning bid of each category


def category(sale: Sale) -> int:
    """What is sold."""
    return sale.category


q4 = pipeline.group("q4")
(sold(q4).group_by("by-category", category).aggregate("prices", CategoryPrice, price=Mean("price")).to(category_prices))

# ---- 6: mean winning bid of the last auctions of each seller


class Selling(msgspec.Struct):
    """The last sales of a seller, and those that came before it was known that none is missing between them: expiry,
    auction and price."""

    last: list[tuple[int, int, int]]
    waiting: list[tuple[int, int, int]]


def seller(sale: Sale) -> int:
    """Who sells."""
    return sale.seller


def note(context: ProcessContext[int, Selling], sale: Sale) -> Iterable[SellerPrice]:
    """Sales come from several partitions, so in any order; by the timer all of that time are there."""
    known = context.state
    if known is None:
        context.state = known = Selling([], [])
    known.waiting.append((sale.expires, sale.auction, sale.price))
    context.set_timer(context.timestamp)
    return ()


def told(context: ProcessContext[int, Selling]) -> Iterable[SellerPrice]:
    """The sales by now in their order, each with those before it."""
    known, found = context.state, []
    assert known is not None
    due = sorted(sale for sale in known.waiting if sale[0] < context.timestamp)
    known.waiting = [sale for sale in known.waiting if sale[0] >= context.timestamp]
    for sale in due:
        known.last = [*known.last, sale][-LAST_AUCTIONS:]
        prices = [price for _, _, price in known.last]
        found.append(SellerPrice(context.key, sale[1], sum(prices) / len(prices)))
    return found


q6 = pipeline.group("q6")
(
    sold(q6)
    .group_by("by-seller", seller)
    .process("selling", note, state=Selling, on_timer=told, value=SellerPrice)
    .to(seller_prices)
)
