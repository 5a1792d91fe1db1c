"""What happens on the auction site, the topics it goes to, and what the queries answer."""

import msgspec


class Person(msgspec.Struct, frozen=True):
    """Somebody registers.

    Attributes:
        date_time: when, ms since 1970, as in all events.
    """

    id: int
    name: str
    email: str
    city: str
    state: str
    date_time: int


class Auction(msgspec.Struct, frozen=True):
    """Somebody offers an item.

    Attributes:
        initial_bid: cents.
        reserve: cents.
        expires: bids count until then, ms since 1970, inclusive.
        seller: a person's id.
    """

    id: int
    item: str
    initial_bid: int
    reserve: int
    expires: int
    seller: int
    category: int
    date_time: int


class Bid(msgspec.Struct, frozen=True):
    """Somebody offers money.

    Attributes:
        auction: its id.
        bidder: a person's id.
        price: cents.
        channel: the site that the bidder came from.
    """

    auction: int
    bidder: int
    price: int
    channel: str
    date_time: int


class AuctionPrice(msgspec.Struct, frozen=True):
    """Answer of query 2."""

    auction: int
    price: int


class SideRow(msgspec.Struct, frozen=True):
    """A row of the side table of query 13."""

    text: str


class SideBid(msgspec.Struct, frozen=True):
    """Answer of query 13: a bid with the side table's text."""

    auction: int
    bidder: int
    price: int
    date_time: int
    text: str


class LocalItem(msgspec.Struct, frozen=True):
    """Answer of query 3: the seller's name and place, and the auction's id."""

    name: str
    city: str
    state: str
    auction: int


class Sale(msgspec.Struct, frozen=True):
    """A closed auction and its winning bid, in cents: what queries 4 and 6 are made from."""

    auction: int
    category: int
    seller: int
    expires: int
    price: int


class CategoryPrice(msgspec.Struct, frozen=True):
    """Answer of query 4: mean winning bid so far."""

    price: float | None


class SellerPrice(msgspec.Struct, frozen=True):
    """Answer of query 6: a closed auction, and the mean winning bid of its seller's last ones up to it."""

    seller: int
    auction: int
    price: float


class HotItem(msgspec.Struct, frozen=True):
    """Answer of query 5: an auction with the most bids of a window."""

    start: int
    auction: int
    number: int


class HighestBid(msgspec.Struct, frozen=True):
    """Answer of query 7: one of the highest bids of a window."""

    start: int
    auction: int
    bidder: int
    price: int
    date_time: int


class NewSeller(msgspec.Struct, frozen=True):
    """Answer of query 8: who registered and opened an auction within one window."""

    id: int
    name: str
    start: int


class BidderSession(msgspec.Struct, frozen=True):
    """Answer of query 11: bids of a bidder without a longer pause."""

    bidder: int
    first: int
    last: int
    number: int


class BidderWindow(msgspec.Struct, frozen=True):
    """Answer of query 12."""

    bidder: int
    start: int
    number: int


# ---- what the queries ask

EUROS_PER_THOUSAND = 908
"""Query 1: euros for a thousand dollars."""

SELECTED = 123
"""Query 2: bids on auctions whose id is a multiple of it."""

LOCAL_CATEGORY = 10
LOCAL_STATES = ("OR", "ID", "CA")
"""Query 3: items of this category that are sold from these states."""

HOP_SIZE, HOP_ADVANCE = 10_000, 2_000
"""Query 5, ms."""

LAST_AUCTIONS = 10
"""Query 6: over so many closed auctions of a seller."""

TUMBLE = 10_000
"""Queries 7, 8 and 12, ms."""

LONGEST = 20_000
"""No auction is open for longer, ms."""

SESSION_GAP = 1_000
"""Query 11, ms; a gap of just that still belongs to the session."""
