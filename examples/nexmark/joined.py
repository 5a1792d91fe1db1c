"""The queries that join: 3, tables by a foreign key, and 8, streams within a time."""

from datetime import timedelta

from examples.nexmark.models import (
    LOCAL_CATEGORY,
    LOCAL_STATES,
    TUMBLE,
    Auction,
    LocalItem,
    NewSeller,
    Person,
)
from examples.nexmark.topics import CLOCK, PARTITIONS, auctions, persons, pipeline, when
from penstock.pipelines import FOREVER, JoinWindow, Topic, nullable

local_items = Topic("q3", key=int, value=nullable(LocalItem), partitions=PARTITIONS, retention=FOREVER)
new_sellers = Topic("q8", key=int, value=NewSeller, partitions=PARTITIONS, retention=FOREVER)


def seller(auction: Auction) -> int:
    """Whose auction it is."""
    return auction.seller


# ---- 3: local items


def local_seller(auction: Auction) -> int | None:
    """The seller of an item of the category; others name nobody."""
    return auction.seller if auction.category == LOCAL_CATEGORY else None


def local_item(auction: Auction, person: Person) -> LocalItem | None:
    """The item, where its seller lives in one of the states."""
    if person.state not in LOCAL_STATES:
        return None
    return LocalItem(person.name, person.city, person.state, auction.id)


q3 = pipeline.group("q3")
sellers = q3.table("persons", persons)
offers = q3.table("auctions", auctions)
local = offers.join_foreign("local-items", sellers, local_seller, local_item, value=LocalItem)
local.to_stream().filter(lambda found: found is not None).to(local_items)

# ---- 8: who registers and sells within one window

NEAR = timedelta(milliseconds=TUMBLE - 1)


def new_seller(person: Person, auction: Auction) -> NewSeller | None:
    """A seller, where both fall in one window."""
    start = person.date_time // TUMBLE * TUMBLE
    return NewSeller(person.id, person.name, start) if auction.date_time // TUMBLE * TUMBLE == start else None


def is_new(found: NewSeller | None) -> bool:
    """Whether they did."""
    return found is not None


def present(found: NewSeller | None) -> NewSeller:
    """The seller."""
    assert found is not None
    return found


q8 = pipeline.group("q8")
registered = q8.stream(persons, time=when, clock=CLOCK)
opened = q8.stream(auctions, time=when, clock=CLOCK).group_by("by-seller", seller)
(
    registered.join(opened, new_seller, within=JoinWindow(before=NEAR, after=NEAR), name="new-sellers")
    .filter(is_new)
    .map(present)
    .distinct("each-once", within=timedelta(days=1))
    .to(new_sellers)
)
