"""Inputs of keyed and windowed aggregates."""

from collections.abc import Iterator
from typing import Any

from tests.golden.cases import Input
from tests.golden.inputs.notation import Dice, Given, drawn, given

MANY = [f"k{number:02}" for number in range(25)]


def keyed(mode: str) -> Iterator[Given]:
    """One row for each key. Sums that come to 0, and ``!`` of `aggregate`, delete the row."""
    yield Given("in-order", {}, given("a=1@0 a=2@5 b=3@6 a=4@9 b=5@9"))
    yield Given("older-later", {}, given("a=1@10 a=2@3 b=3@20 a=4@10 a=5@11 a=6@0"))
    yield Given("nulls", {}, given("-=1@1 a=-@9 a=2@3 -=-@4 b=-@5 a=3@1"))
    gone = {
        "reduce": "a=5@1 a=-5@3 a=2@2 a=-2@1 b=0@4 b=0@5 a=7@0",
        "aggregate": "a=1@7 a=!@3 a=!@4 a=2@2 b=!@9 a=3@1 a=!@9",
    }
    if mode in gone:
        yield Given("row-deleted", {}, given(gone[mode]))
    yield Given("many-keys", {}, list(drawn(Dice("keyed", "many"), 60, keys=MANY, late=10)))
    for number in range(8):
        dice = Dice("keyed", number)

        def value(dice: Dice, number: int, _topic: str) -> Any:
            if mode == "aggregate":
                return "!" if dice.chance(0.15) else number
            return dice.below(7) - 3

        yield Given(f"drawn-{number}", {}, list(drawn(dice, 24, late=number * 2, value=value)))


def rekeyed(_mode: str) -> Iterator[Given]:
    """Values GROUP:NUMBER; those without a group are dropped before the aggregation."""
    yield Given("two-groups", {}, given("a=x:1@0 b=x:2@5 a=y:3@6 -=y:4@7 b=:5@8 a=x:6@2"))
    for number in range(6):
        groups = lambda dice, number, _topic: f"{dice.pick(['x', 'y', 'z', ''])}:{number}"  # noqa: E731
        yield Given(f"drawn-{number}", {}, list(drawn(Dice("rekeyed", number), 20, late=number, value=groups)))


def tumbling(_mode: str) -> Iterator[Given]:
    """Windows of 10 by hand, others drawn."""
    ten, grace = {"size": 10, "grace": 0}, {"size": 10, "grace": 5}
    yield from _named("append", [
        ("in-order", ten, "a=1@0 a=2@5 b=3@9 a=4@10 a=5@19 a=6@20 b=7@31"),
        ("no-grace-tie", ten, "a=1@9 a=2@10 a=3@9 b=4@20 a=5@19 a=6@20"),
        ("within-grace", grace, "a=1@3 a=2@12 a=3@8 a=4@14 a=5@9 a=6@15 a=7@9 a=8@10"),
        ("closed-by-another-key", grace, "a=1@3 b=2@4 c=3@14 c=4@15 a=5@4 c=6@25"),
        ("late-beyond-grace", grace, "a=1@3 a=2@40 a=3@5 a=4@24 a=5@25 a=6@29 a=7@30 a=8@35"),
        ("null-keys-move-no-time", grace, "a=1@3 -=2@90 a=3@4 a=4@15 -=5@99 a=6@14"),
        ("null-values-count", grace, "a=-@3 a=2@4 b=-@5 b=-@6 c=-@30"),
        ("highest-timestamp", grace, "a=1@8 a=2@3 a=3@5 a=4@12 a=5@9 a=6@11 b=7@40"),
        ("windows-between-are-empty", ten, "a=1@0 a=2@95 b=3@200 a=4@199"),
        ("row-deleted", grace, "a=1@1 a=!@2 a=2@3 b=3@4 b=!@9 c=4@30"),
        ("today", grace, "a=1@1763856000000 a=2@1763856000009 a=3@1763856000011 a=4@1763856000004 b=5@1763856000025"),
        ("many-keys", grace, list(drawn(Dice("tumbling", "many"), 70, keys=MANY, step=1, late=8))),
    ])  # fmt: skip
    yield from _drawn("tumbling", [{"size": s, "grace": g} for s, g in ((5, 0), (5, 3), (7, 7), (10, 4), (3, 12))], 12)


def hopping(_mode: str) -> Iterator[Given]:
    """Windows of 10 each 4 by hand, others drawn: with and without a rest, and with an advance equal to the size."""
    ten, grace = {"size": 10, "advance": 4, "grace": 0}, {"size": 10, "advance": 5, "grace": 5}
    yield from _named("append", [
        ("near-0", ten, "a=1@0 a=2@3 a=3@4 a=4@8 a=5@9 a=6@10"),
        ("no-grace-tie", ten, "a=1@9 a=2@10 a=3@9 a=4@14 a=5@13 b=6@30"),
        ("dropped-from-the-old-ones", grace, "a=1@7 a=2@15 a=3@9 a=4@20 a=5@14 a=6@19 b=7@40"),
        ("closed-by-another-key", grace, "a=1@7 b=2@8 c=3@14 c=4@15 c=5@19 c=6@20"),
        ("null-keys-move-no-time", grace, "a=1@3 -=2@90 a=3@4 a=4@15 -=5@99 a=6@14"),
        ("null-values-count", grace, "a=-@3 a=2@7 b=-@8 c=-@30"),
        ("row-deleted", grace, "a=1@6 a=!@7 a=2@12 a=!@8 c=4@40"),
        ("today", grace, "a=1@1763856000000 a=2@1763856000007 a=3@1763856000011 a=4@1763856000004 b=5@1763856000025"),
        ("many-keys", grace, list(drawn(Dice("hopping", "many"), 50, keys=MANY, step=1, late=8))),
    ])  # fmt: skip
    sizes = ((6, 2, 0), (6, 4, 3), (7, 3, 7), (10, 5, 4), (4, 1, 12), (5, 5, 2))
    yield from _drawn("hopping", [{"size": s, "advance": a, "grace": g} for s, a, g in sizes], 12)


def sliding(_mode: str) -> Iterator[Given]:
    """Both ends belong to the window. No row is deleted here: what a window then holds in Kafka Streams
    depends on which other window it was made from."""
    five, grace = {"difference": 5, "grace": 0}, {"difference": 5, "grace": 4}
    yield from _named("append", [
        ("in-order", five, "a=1@10 a=2@12 a=3@15 a=4@16 a=5@21 a=6@27 a=7@40"),
        ("ends-are-inclusive", five, "a=1@10 a=2@15 b=3@10 b=4@16 c=5@30"),
        ("near-0", five, "a=1@0 a=2@2 a=3@4 a=4@5 a=5@6 b=6@3 b=7@1 c=8@20"),
        ("near-0-out-of-order", grace, "a=1@4 a=2@1 a=3@6 a=4@0 a=5@3 c=6@30"),
        ("equal-timestamps", grace, "a=1@10 a=2@10 a=3@12 a=4@12 a=5@10 c=6@30"),
        ("out-of-order", grace, "a=1@10 a=2@20 a=3@15 a=4@18 a=5@13 a=6@11 a=7@16 c=8@50"),
        ("no-grace-tie", five, "a=1@10 a=2@15 a=3@10 a=4@16 a=5@10 a=6@11 b=7@40"),
        ("grace-tie", grace, "a=1@10 b=2@19 a=3@10 a=4@11 b=5@20 a=6@10 a=7@11 a=8@12 b=9@40"),
        ("closed-strictly-after", grace, "a=1@10 b=2@19 b=3@20 b=4@24 b=5@25 b=6@40"),
        ("null-keys-and-values", grace, "a=1@10 -=2@90 a=-@11 a=3@12 a=-@99 a=4@9 c=5@50"),
        ("late-beyond-grace", grace, "a=1@10 a=2@60 a=3@12 a=4@51 a=5@50 a=6@56 a=7@55 b=8@90"),
        ("many-keys", grace, list(drawn(Dice("sliding", "many"), 60, keys=MANY, step=1, late=6))),
    ])  # fmt: skip
    yield from _drawn(
        "sliding", [{"difference": d, "grace": g} for d, g in ((4, 0), (5, 3), (3, 8), (8, 2), (1, 0))], 15
    )


def session(_mode: str) -> Iterator[Given]:
    """A gap of 5 still belongs to the session."""
    five, grace = {"gap": 5, "grace": 0}, {"gap": 5, "grace": 4}
    yield from _named("append", [
        ("in-order", five, "a=1@10 a=2@12 a=3@17 a=4@23 b=5@24 b=6@29 a=7@60"),
        ("gap-is-inclusive", five, "a=1@10 a=2@15 b=3@10 b=4@16 c=5@40"),
        ("bridges-two", grace, "a=1@10 a=2@19 a=3@14 b=4@12 c=5@60"),
        ("bridges-three", {"gap": 5, "grace": 30}, "a=1@10 a=2@30 a=3@20 a=4@25 a=5@15 c=6@90"),
        ("bridge-too-long", grace, "a=1@10 a=2@21 a=3@15 a=4@16 c=5@60"),
        ("same-instant", grace, "a=1@10 a=2@10 a=3@12 a=4@12 a=5@11 c=6@60"),
        ("inside-the-session", grace, "a=1@10 a=2@14 a=3@12 a=4@11 c=5@60"),
        ("near-0", grace, "a=1@0 a=2@3 a=3@1 b=4@4 b=5@0 c=6@40"),
        ("no-grace-tie", five, "a=1@10 b=2@15 a=3@8 b=4@16 a=5@11 a=6@5 b=7@40"),
        ("grace-tie", grace, "a=1@10 b=2@19 c=3@10 b=4@20 d=5@10 d=6@11 b=7@60"),
        ("late-saved-by-a-live-session", grace, "a=1@20 b=2@28 a=3@15 a=4@10 a=5@5 c=6@17 b=7@90"),
        ("closed-session-taken-in-again", grace, "a=1@10 b=2@20 a=3@14 a=4@13 b=5@60"),
        ("null-keys-move-no-time", grace, "a=1@10 -=2@90 a=3@12 a=4@8 -=5@99 b=6@60"),
        ("null-values-count", grace, "a=-@10 a=2@12 b=-@13 c=-@60"),
        ("row-deleted", grace, "a=1@10 a=!@12 a=2@13 b=3@14 b=!@14 b=4@15 c=5@60"),
        ("many-keys", grace, list(drawn(Dice("session", "many"), 60, keys=MANY, step=1, late=8))),
    ])  # fmt: skip
    yield from _drawn("session", [{"gap": d, "grace": g} for d, g in ((3, 0), (4, 3), (2, 8), (6, 2), (0, 0))], 15)


def _named(aggregate: str, rows: list[tuple[str, dict[str, int], str | list[Input]]]) -> Iterator[Given]:
    for name, params, inputs in rows:
        yield Given(name, {**params, "aggregate": aggregate}, given(inputs) if isinstance(inputs, str) else inputs)


def _drawn(operator: str, params: list[dict[str, int]], count: int) -> Iterator[Given]:
    """In turn: in order, within grace, beyond it; every third counts only."""
    for number in range(count):
        dice = Dice(operator, number)
        chosen = params[number % len(params)]
        span = max(chosen.values())
        late = (0, chosen["grace"], span + chosen["grace"] + 3)[number % 3]
        aggregate = "count" if number % 3 == 1 else "append"
        inputs = list(drawn(dice, 24, step=1 + span // 2, late=late, jump=span * 3))
        yield Given(f"drawn-{number}", {**chosen, "aggregate": aggregate}, inputs)
