"""Events of an auction site, from a seed: always the same ones.

Of 50 events in a row the first is a person, the next three are auctions, the other 46 bids: the proportions of Nexmark.
Their event times never go back; `disordered` says in which order, and when, they arrive.

Persons and auctions have ids from 1000 on, in order. Sellers and bidders are among the 100 newest persons, and the
auctions that are bid for among the 60 newest. One in two bids is for the newest auction whose id is a multiple of 10,
which makes some items hot; one in four comes from the newest person with such an id. An auction is open for 2 to 20 s,
so that some bids come too late.
"""

import random
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from examples.nexmark.models import Auction, Bid, Person

FIRST_ID = 1000
PERSONS, AUCTIONS, OF = 1, 3, 50
"""Of so many events so many are persons, and auctions; the others are bids."""

START = 1_767_225_600_000
"""2026-01-01, ms since 1970: the first event's time."""

CATEGORIES = (10, 11, 12, 13, 14)
PLACES = (
    ("Phoenix", "AZ"),
    ("Palo Alto", "CA"),
    ("San Francisco", "CA"),
    ("Boise", "ID"),
    ("Portland", "OR"),
    ("Bend", "OR"),
    ("Seattle", "WA"),
    ("Cheyenne", "WY"),
)
_NAMES = ("Ada", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gus", "Hana", "Ivo", "Jo")
_CHANNELS = ("apple", "google", "baidu", "direct")
_ACTIVE_PERSONS, _ACTIVE_AUCTIONS = 100, 60
_HOT = 10

Event = Person | Auction | Bid


class Arrival(NamedTuple):
    """An event, and when it gets there."""

    event: Event
    at: int


def events(count: int, *, seed: int = 1, gap: int = 5) -> Iterator[Event]:
    """Events in the order of their time.

    Args:
        count: how many.
        seed: another one gives other events.
        gap: mean time between two, ms. Default 5: 200 events a second, 12 windows of 10 s in 24,000. There are equal
            times.
    """
    dice = random.Random(seed).random  # the one method of which Python promises the same numbers for ever
    now = START
    for number in range(count):
        person, auction = _made_before(number)
        place = number % OF
        if place < PERSONS:
            yield _person(dice(), dice(), person, now)
        elif place < PERSONS + AUCTIONS:
            yield _auction([dice() for _ in range(6)], auction, person, now)
        else:
            yield _bid([dice() for _ in range(6)], auction, person, now)
        now += int(dice() * (2 * gap + 1))


def disordered(some: Iterable[Event], *, bound: int, seed: int = 1) -> list[Arrival]:
    """The same in the order of their arrival: each is up to `bound` ms late, so that event time goes back by no more.

    Args:
        some: events in the order of their time.
        bound: ms.
        seed: another one gives another order.
    """
    dice = random.Random(seed).random
    late = [Arrival(event, event.date_time + int(dice() * (bound + 1))) for event in some]
    return sorted(late, key=lambda arrival: arrival.at)  # stable: what arrives at once stays in order


def side_table(rows: int = 20) -> dict[int, str]:
    """The bounded side input of query 13: a text for each remainder of an auction's id."""
    return {key: f"side-{key:02}" for key in range(rows)}


def _made_before(number: int) -> tuple[int, int]:
    """The next person's id and the next auction's."""
    rounds, place = divmod(number, OF)
    persons = rounds * PERSONS + min(place, PERSONS)
    auctions = rounds * AUCTIONS + min(max(place - PERSONS, 0), AUCTIONS)
    return FIRST_ID + persons, FIRST_ID + auctions


def _person(first: float, second: float, number: int, now: int) -> Person:
    name = _NAMES[int(first * len(_NAMES))]
    city, state = PLACES[int(second * len(PLACES))]
    return Person(number, f"{name} {number}", f"{name.lower()}{number}@example.com", city, state, now)


def _auction(drawn: list[float], number: int, persons: int, now: int) -> Auction:
    initial = 100 + int(drawn[0] * 10_000)
    return Auction(
        id=number,
        item=f"item {number}",
        initial_bid=initial,
        reserve=initial + int(drawn[1] * 5_000),
        expires=now + 2_000 + int(drawn[2] * 18_001),
        seller=_among(persons, _ACTIVE_PERSONS, drawn[3], hot=drawn[4] < 0.25),
        category=CATEGORIES[int(drawn[5] * len(CATEGORIES))],
        date_time=now,
    )


def _bid(drawn: list[float], auctions: int, persons: int, now: int) -> Bid:
    return Bid(
        auction=_among(auctions, _ACTIVE_AUCTIONS, drawn[0], hot=drawn[1] < 0.5),
        bidder=_among(persons, _ACTIVE_PERSONS, drawn[2], hot=drawn[3] < 0.25),
        price=100 + int(drawn[4] * drawn[4] * 100_000),  # squared: most bids are low
        channel=_CHANNELS[int(drawn[5] * len(_CHANNELS))],
        date_time=now,
    )


def _among(end: int, active: int, drawn: float, *, hot: bool) -> int:
    """One of the newest ids before `end`; a hot one is the newest multiple of 10, if there is one yet."""
    if hot:
        newest = (end - 1) // _HOT * _HOT
        if newest >= FIRST_ID:
            return newest
    begin = max(FIRST_ID, end - active)
    return begin + int(drawn * (end - begin))
