"""The generated events are those that are promised."""

import hashlib
from collections import Counter
from itertools import pairwise

import msgspec

from examples.nexmark.generator import FIRST_ID, START, Arrival, Event, disordered, events, side_table
from examples.nexmark.models import Auction, Bid, Person


def made(count: int, seed: int = 1) -> list[Event]:
    return list(events(count, seed=seed))


def test_of_fifty_events_one_is_a_person_three_are_auctions() -> None:
    some = made(5_000)
    assert Counter(type(event) for event in some) == {Person: 100, Auction: 300, Bid: 4_600}
    assert [type(event) for event in some[50:55]] == [Person, Auction, Auction, Auction, Bid]


def test_a_seed_gives_the_same_events_today_and_tomorrow() -> None:
    assert made(200) == made(200)
    assert made(200) != made(200, seed=2)
    text = msgspec.json.encode(made(1_000))
    assert hashlib.sha256(text).hexdigest() == "08957e95fa266d08147d8252b456235acddbc628e53c1be3f013a345948787b1"


def test_times_never_go_back_and_some_are_equal() -> None:
    times = [event.date_time for event in made(2_000)]
    steps = Counter(after - before for before, after in pairwise(times))
    assert times[0] == START
    assert set(steps) == set(range(11))
    assert 4.5 < (times[-1] - times[0]) / 2_000 < 5.5


def test_whoever_is_named_was_there_before() -> None:
    persons, auctions = set[int](), dict[int, Auction]()
    late = 0
    for event in made(20_000):
        match event:
            case Person(id=number):
                assert number == FIRST_ID + len(persons)
                persons.add(number)
            case Auction(id=number):
                assert number == FIRST_ID + len(auctions)
                assert event.seller in persons
                assert 2_000 <= event.expires - event.date_time <= 20_000
                auctions[number] = event
            case Bid():
                assert event.bidder in persons
                late += event.date_time > auctions[event.auction].expires
    assert 0 < late < 18_400 / 2


def test_some_are_hot() -> None:
    bids = [event for event in made(20_000) if isinstance(event, Bid)]
    assert 0.45 < sum(bid.auction % 10 == 0 for bid in bids) / len(bids) < 0.60
    assert 0.25 < sum(bid.bidder % 10 == 0 for bid in bids) / len(bids) < 0.40


def test_disorder_is_bounded_and_loses_nobody() -> None:
    some = made(2_000)
    arrivals = disordered(some, bound=300)
    assert sorted((a.event for a in arrivals), key=repr) == sorted(some, key=repr)
    assert [a.event for a in arrivals] != some
    assert all(0 <= arrival.at - arrival.event.date_time <= 300 for arrival in arrivals)
    highest, back = 0, 0
    for (event, at), (_, then) in pairwise(arrivals):
        assert at <= then
        highest = max(highest, event.date_time)
        back = max(back, highest - event.date_time)
    assert 200 < back <= 300
    assert disordered(some, bound=0) == [Arrival(event, event.date_time) for event in some]


def test_the_side_table_has_a_text_for_each_remainder() -> None:
    assert side_table(2) == {0: "side-00", 1: "side-01"}
