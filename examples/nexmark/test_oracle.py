"""The SQL itself, on events that one can answer in the head."""

import pytest

from examples.nexmark.generator import Arrival, Event
from examples.nexmark.models import Auction, Bid, Person
from examples.nexmark.oracle import QUERIES, Oracle


def person(number: int, at: int = 0, state: str = "OR") -> Person:
    return Person(number, f"P{number}", "p@example.com", "Bend", state, at)


def auction(number: int, at: int, expires: int, *, seller: int = 1, category: int = 10) -> Auction:
    return Auction(number, "item", 1, 2, expires, seller, category, at)


def bid(on: int, at: int, price: int = 100, bidder: int = 1) -> Bid:
    return Bid(on, bidder, price, "direct", at)


def answer(
    query: str, *events: Event, now: int | None = None, side: dict[int, str] | None = None
) -> list[tuple[object, ...]]:
    return Oracle([Arrival(event, event.date_time + 5) for event in events], now=now, side=side).answer(query)


def test_bids_as_they_are_and_in_euros() -> None:
    some = [bid(7, 20, 1_000), bid(7, 10, 999)]
    assert answer("q0", *some) == [(7, 1, 999, "direct", 10), (7, 1, 1_000, "direct", 20)]
    assert answer("q1", *some) == [(7, 1, 907, "direct", 10), (7, 1, 908, "direct", 20)]


def test_chosen_auctions() -> None:
    assert answer("q2", bid(122, 1), bid(123, 2, 50), bid(246, 3), bid(123, 4)) == [(123, 50), (123, 100), (246, 100)]


def test_local_items() -> None:
    persons = [person(1), person(2, state="NY"), person(3, state="CA")]
    some = [
        auction(10, 5, 9, seller=1),
        auction(11, 5, 9, seller=1, category=11),
        auction(12, 5, 9, seller=2),
        auction(13, 5, 9, seller=3),
        auction(14, 5, 9, seller=4),
    ]
    assert answer("q3", *persons, *some) == [("P1", "Bend", "OR", 10), ("P3", "Bend", "CA", 13)]
    assert answer("q3", *some, *persons) == [("P1", "Bend", "OR", 10), ("P3", "Bend", "CA", 13)]


SALES = [
    auction(10, 100, 200), bid(10, 99, 900), bid(10, 100, 300), bid(10, 200, 400), bid(10, 201, 950), bid(10, 150, 10),
    auction(11, 110, 300), bid(11, 250, 100),
    auction(12, 120, 150, category=11), bid(12, 130, 70), bid(12, 130, 70),
    auction(13, 120, 150, category=12), bid(13, 151, 70),
    auction(14, 120, 170, seller=2), bid(14, 160, 1),
]  # fmt: skip


def test_mean_winning_bid_of_categories() -> None:
    """Bids at the opening and at the expiry count; auctions without bids do not."""
    assert answer("q4", *SALES) == [(10, 501 / 3), (11, 70.0)]


def test_an_auction_is_closed_once_its_expiry_has_passed() -> None:
    assert answer("q4", *SALES, now=201) == [(10, 401 / 2), (11, 70.0)]
    assert answer("q4", *SALES, now=200) == [(10, 1.0), (11, 70.0)]


def test_mean_of_a_sellers_last_auctions() -> None:
    assert answer("q6", *SALES) == [(1, 10, 235.0), (1, 11, 190.0), (1, 12, 70.0), (2, 14, 1.0)]
    many = [event for n in range(12) for event in (auction(n, n, 100 + n), bid(n, 50, n))]
    found = answer("q6", *many)
    assert found[9:] == [(1, 9, 4.5), (1, 10, 5.5), (1, 11, 6.5)]


def test_hot_items_of_hopping_windows() -> None:
    some = [bid(1, 0), bid(1, 1_999), bid(2, 2_000), bid(2, 10_000), bid(2, 11_000), bid(3, 11_999), bid(3, 11_999)]
    found = answer("q5", *some)
    assert found[0] == (0, 1, 2)
    assert [row[1:] for row in found if row[0] == 2_000] == [(2, 3)]
    assert [row[1:] for row in found if row[0] == 4_000] == [(2, 2), (3, 2)]
    assert {row[0] for row in found} == {0, 2_000, 4_000, 6_000, 8_000, 10_000}
    assert {row[0] for row in answer("q5", *some, now=12_000)} == {0, 2_000}


def test_highest_bids_of_windows() -> None:
    some = [bid(1, 0, 5), bid(2, 9_999, 7), bid(3, 5_000, 7, bidder=2), bid(4, 10_000, 1)]
    assert answer("q7", *some) == [(0, 2, 1, 7, 9_999), (0, 3, 2, 7, 5_000), (10_000, 4, 1, 1, 10_000)]
    assert len(answer("q7", *some, now=19_999)) == 2


def test_those_who_sell_as_soon_as_they_are_there() -> None:
    some = [
        person(1, 500), auction(1, 600, 700), auction(2, 9_999, 10_000),
        person(2, 9_999), auction(3, 10_000, 10_001, seller=2),
        person(3, 12_000), auction(4, 11_000, 12_000, seller=3),
    ]  # fmt: skip
    assert answer("q8", *some) == [(1, "P1", 0), (3, "P3", 10_000)]
    assert answer("q8", *some, now=10_000) == [(1, "P1", 0)]


def test_sessions_of_bidders() -> None:
    some = [bid(1, 0), bid(2, 1_000), bid(1, 2_001), bid(1, 500, bidder=2), bid(1, 2_001)]
    assert answer("q11", *some) == [(1, 0, 1_000, 2), (1, 2_001, 2_001, 2), (2, 500, 500, 1)]
    assert answer("q11", *some, now=2_001) == [(1, 0, 1_000, 2), (2, 500, 500, 1)]
    assert answer("q11", *some, now=2_000) == [(2, 500, 500, 1)]


def test_windows_of_arrival() -> None:
    """All arrive 5 ms after they happen."""
    some = [bid(1, 0), bid(2, 9_994), bid(1, 9_995), bid(1, 9_995, bidder=2)]
    assert answer("q12", *some) == [(1, 0, 2), (1, 10_000, 1), (2, 10_000, 1)]
    assert answer("q12", *some, now=10_000) == [(1, 0, 2)]


def test_a_side_input() -> None:
    found = answer("q13", bid(4, 1), bid(5, 2), bid(8, 3), side={0: "even", 1: "odd"})
    assert found == [(4, 1, 100, 1, "even"), (5, 1, 100, 2, "odd"), (8, 1, 100, 3, "even")]


@pytest.mark.parametrize("query", QUERIES)
def test_no_events_no_answer(query: str) -> None:
    assert answer(query) == []


def test_a_query_that_is_not_there() -> None:
    with pytest.raises(KeyError, match="q9"):
        answer("q9")
