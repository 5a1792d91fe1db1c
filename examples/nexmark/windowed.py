"""The queries over windows: 5, 7, 11 and 12. Each result comes out once, when its window is over."""

from collections.abc import Iterable
from datetime import timedelta

import msgspec

from examples.nexmark.models import (
    HOP_ADVANCE,
    HOP_SIZE,
    SESSION_GAP,
    TUMBLE,
    Bid,
    BidderSession,
    BidderWindow,
    HighestBid,
    HotItem,
)
from examples.nexmark.topics import CLOCK, PARTITIONS, bids, pipeline, when
from penstock.pipelines import FOREVER, Hopping, OnClose, ProcessContext, Session, Topic, Tumbling, Windowed

hot_items = Topic("q5", key=int, value=HotItem, partitions=PARTITIONS, retention=FOREVER)
highest_bids = Topic("q7", key=int, value=HighestBid, partitions=PARTITIONS, retention=FOREVER)
bidder_sessions = Topic("q11", key=Windowed[int], value=BidderSession, partitions=PARTITIONS, retention=FOREVER)
bidder_windows = Topic("q12", key=Windowed[int], value=BidderWindow, partitions=PARTITIONS, retention=FOREVER)


def ms(number: int) -> timedelta:
    """A duration."""
    return timedelta(milliseconds=number)


def bidder(bid: Bid) -> int:
    """Who bids."""
    return bid.bidder


# ---- 5: hot items. Counts of each auction, of which the highest of each window are kept


class HotItems(msgspec.Struct):
    """The auctions of a window that have the most bids of those that were counted so far."""

    number: int
    auctions: list[int]


def item(window: Windowed[int], number: int) -> HotItem:
    """An auction's bids in a window."""
    return HotItem(window.start, window.key, number)


def window_of(found: HotItem | HighestBid) -> int:
    """The window's start."""
    return found.start


def hotter(context: ProcessContext[int, HotItems], found: HotItem) -> Iterable[HotItem]:
    """Keep the most; all counts of a window are there once time is past its end."""
    best = context.state
    if best is None or found.number > best.number:
        context.state = HotItems(found.number, [found.auction])
    elif found.number == best.number:
        best.auctions.append(found.auction)
    context.set_timer(found.start + HOP_SIZE)
    return ()


def hottest(context: ProcessContext[int, HotItems]) -> Iterable[HotItem]:
    """A window is over."""
    best, context.state = context.state, None
    return [HotItem(context.key, auction, best.number) for auction in best.auctions] if best else []


hopping = Hopping(ms(HOP_SIZE), advance=ms(HOP_ADVANCE))
(
    pipeline.group("q5")
    .stream(bids, time=when, clock=CLOCK)  # by auction, as they come
    .window(hopping)
    .count("bids-of-auction", emit=OnClose())
    .map_item(item)
    .group_by("by-window", window_of)
    .process("most", hotter, state=HotItems, on_timer=hottest, value=HotItem)
    .to(hot_items)
)

# ---- 7: highest bids


def higher(best: list[Bid], bid: Bid) -> list[Bid]:
    """The highest bids, all of those that are equal."""
    if not best or bid.price > best[0].price:
        return [bid]
    return [*best, bid] if bid.price == best[0].price else best


def ranked(window: Windowed[int], best: list[Bid]) -> list[HighestBid]:
    """The highest bids for an auction in a window."""
    return [HighestBid(window.start, bid.auction, bid.bidder, bid.price, bid.date_time) for bid in best]


def each(some: list[HighestBid]) -> list[HighestBid]:
    """One by one."""
    return some


class Highest(msgspec.Struct):
    """The highest bids of a window that were found so far."""

    bids: list[HighestBid]


def outbid(context: ProcessContext[int, Highest], found: HighestBid) -> Iterable[HighestBid]:
    """Keep the highest."""
    best = context.state
    if best is None or found.price > best.bids[0].price:
        context.state = Highest([found])
    elif found.price == best.bids[0].price:
        best.bids.append(found)
    context.set_timer(found.start + TUMBLE)
    return ()


def highest(context: ProcessContext[int, Highest]) -> Iterable[HighestBid]:
    """A window is over."""
    best, context.state = context.state, None
    return best.bids if best else []


(
    pipeline.group("q7")
    .stream(bids, time=when, clock=CLOCK)
    .window(Tumbling(ms(TUMBLE)))
    .fold("highest-of-auction", list[Bid], higher, value=list[Bid], emit=OnClose())
    .map_item(ranked)
    .flat_map(each)
    .group_by("by-window", window_of)
    .process("highest", outbid, state=Highest, on_timer=highest, value=HighestBid)
    .to(highest_bids)
)

# ---- 11: sessions of bidders


def session(window: Windowed[int], number: int) -> BidderSession:
    """A session with its bounds."""
    return BidderSession(window.key, window.start, window.end, number)


(
    pipeline.group("q11")
    .stream(bids, time=when, clock=CLOCK)
    .group_by("by-bidder", bidder)
    .window(Session(ms(SESSION_GAP)))
    .count("sessions", emit=OnClose())
    .map_item(session)
    .to(bidder_sessions)
)

# ---- 12: windows of the time of arrival, which is the record's own


def arrived(window: Windowed[int], number: int) -> BidderWindow:
    """A bidder's bids in a window."""
    return BidderWindow(window.key, window.start, number)


(
    pipeline.group("q12")
    .stream(bids, clock=CLOCK)
    .group_by("by-bidder", bidder)
    .window(Tumbling(ms(TUMBLE)))
    .count("arrivals", emit=OnClose())
    .map_item(arrived)
    .to(bidder_windows)
)
