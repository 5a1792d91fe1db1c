"""Inputs of joins of streams, and of streams with tables."""

from collections.abc import Iterator
from typing import Any

from tests.golden.inputs.aggregates import MANY
from tests.golden.inputs.notation import Dice, Given, drawn, given

_SIDES = ("left", "right")


def stream_stream(_mode: str) -> Iterator[Given]:
    """A left record at t meets right ones from t - before to t + after."""
    window, grace = {"before": 3, "after": 5, "grace": 0}, {"before": 3, "after": 5, "grace": 4}
    same = {"before": 0, "after": 0, "grace": 0}
    yield from _named([
        ("bounds-left-first", window, "l/a=1@10 r/a=2@6 r/a=3@7 r/a=4@10 r/a=5@15 r/a=6@16"),
        ("bounds-right-first", window, "r/a=1@6 r/a=2@7 r/a=3@10 r/a=4@15 r/a=5@16 l/a=6@10"),
        ("same-instant", same, "l/a=1@5 r/a=2@5 r/a=3@5 l/a=4@5 r/a=5@6 l/a=6@7 r/a=7@7"),
        ("keys-do-not-mix", window, "l/a=1@5 r/b=2@5 r/a=3@6 l/b=4@6 l/a=5@20 r/b=6@20"),
        ("near-0", window, "l/a=1@0 r/a=2@0 l/a=3@2 r/a=4@5 r/a=5@6 l/a=6@9"),
        ("left-due", window, "l/a=1@10 l/b=2@15 l/b=3@16 r/b=4@30 l/c=5@40"),
        ("right-due", window, "r/a=1@10 r/b=2@13 r/b=3@14 l/b=4@30 r/c=5@40"),
        ("both-due-at-once", window, "l/a=1@10 r/b=2@10 l/c=3@11 r/d=4@12 l/e=5@60"),
        ("due-with-grace", grace, "l/a=1@10 r/b=2@12 l/b=3@19 l/b=4@20 r/b=5@40"),
        ("match-before-due", grace, "l/a=1@10 r/a=2@14 l/b=3@30 r/b=4@35 l/c=5@60"),
        ("out-of-order-match", grace, "l/a=1@10 l/b=2@18 r/a=3@14 r/a=4@7 l/c=5@40"),
        ("late-beyond-grace", grace, "l/a=1@10 r/b=2@50 l/a=3@20 r/a=4@20 l/b=5@47 r/b=6@44 r/c=7@90"),
        ("null-keys", grace, "l/-=1@10 r/-=2@11 l/a=3@12 r/-=4@60 l/-=5@61 r/a=6@61"),
        ("null-values", grace, "l/a=-@10 r/a=2@11 l/a=3@12 r/a=-@60 r/b=5@61"),
        ("several-on-each-side", window, "l/a=1@10 l/a=2@11 r/a=3@12 r/a=4@9 l/a=5@10 r/a=6@11"),
        ("many-keys", grace, list(drawn(Dice("streams", "many"), 60, topics=_SIDES, keys=MANY[:12], step=1, late=3))),
    ])  # fmt: skip
    bounds = ((3, 5, 0), (0, 4, 0), (2, 2, 3), (4, 0, 6), (0, 0, 2), (3, 1, 10))
    for number in range(18):
        before, after, allowed = bounds[number % len(bounds)]
        params = {"before": before, "after": after, "grace": allowed}
        late = (0, allowed, before + after + allowed + 4)[number // 3 % 3]
        dice = Dice("stream-stream", number)
        inputs = list(
            drawn(dice, 24, topics=_SIDES, keys=("a", "b"), step=3, late=late, jump=25, null_key=0.02, null=0.04)
        )
        yield Given(f"drawn-{number}-{('in-order', 'within-grace', 'late')[number // 3 % 3]}", params, inputs)


def stream_table(_mode: str) -> Iterator[Given]:
    """Only records of the stream cause results, and arrival decides."""
    yield from _named([
        ("before-and-after", {}, "s/a=1@5 t/a=2@6 s/a=3@7 t/a=4@8 s/a=5@9"),
        ("equal-timestamps", {}, "t/a=1@5 s/a=2@5 t/a=3@5 s/a=4@5"),
        ("older-row-wins", {}, "t/a=1@50 t/a=2@10 s/a=3@60 s/a=4@5"),
        ("tombstones", {}, "t/a=1@1 s/a=2@2 t/a=-@3 s/a=3@4 t/b=-@5 s/b=4@6"),
        ("nulls", {}, "t/-=1@1 s/-=2@2 t/a=3@3 s/a=-@4 s/-=-@5 s/a=5@6"),
        ("keys-do-not-mix", {}, "t/a=1@1 s/b=2@2 t/b=3@3 s/b=4@4 s/a=5@5"),
    ])  # fmt: skip
    yield Given(
        "many-keys", {}, list(drawn(Dice("stream-table", "many"), 60, topics=("stream", "table"), keys=MANY[:12]))
    )
    for number in range(8):
        inputs = drawn(Dice("stream-table", number), 24, topics=("stream", "table"), late=number * 2, null=0.15)
        yield Given(f"drawn-{number}", {}, list(inputs))


def as_of(mode: str) -> Iterator[Given]:
    """A record of the stream meets the row of its own time. `grace` null: at once, from what has arrived."""
    at_once, short, waits = (
        {"history": 100, "grace": None},
        {"history": 10, "grace": None},
        {"history": 100, "grace": 5},
    )
    yield from _named([
        ("row-of-its-time", at_once, "t/a=1@10 t/a=2@20 s/a=3@9 s/a=4@10 s/a=5@19 s/a=6@20 s/a=7@25"),
        ("rows-out-of-order", at_once, "t/a=1@20 t/a=2@10 s/a=3@15 s/a=4@25 t/a=5@15 s/a=6@15"),
        ("same-time-replaces", at_once, "t/a=1@10 t/a=2@10 s/a=3@10 s/a=4@11"),
        ("tombstones", at_once, "t/a=1@10 t/a=-@20 t/a=2@30 s/a=3@19 s/a=4@20 s/a=5@29 s/a=6@30"),
        ("tombstone-older", at_once, "t/a=1@10 t/a=2@30 t/a=-@20 s/a=3@15 s/a=4@25 s/a=5@35"),
        ("beyond-history", short, "t/a=1@10 t/a=2@20 t/b=3@30 s/a=4@15 s/a=5@19 s/a=6@20 s/a=7@25"),
        ("row-beyond-history", short, "t/a=1@50 t/a=2@39 t/a=3@40 t/a=4@41 s/a=5@40 s/a=6@41 s/a=7@50"),
        ("newest-row-never-expires", short, "t/a=1@10 t/b=2@90 s/a=3@12 s/a=4@90 s/a=5@9 s/b=6@85"),
        ("nulls", at_once, "t/-=1@1 t/a=2@2 s/a=-@4 s/-=-@5 s/a=5@6 s/-=6@6"),
        ("waits-for-the-stream", waits, "s/a=1@10 t/a=2@9 s/b=3@14 t/a=4@10 s/b=5@15 s/b=6@30"),
        ("comes-out-in-order", waits, "t/a=1@1 s/a=2@12 s/a=3@10 s/b=4@11 t/a=5@10 s/b=6@17 s/b=7@40"),
        ("too-old-to-wait", waits, "t/a=1@1 s/a=2@20 s/a=3@15 s/a=4@14 t/a=5@14 s/b=6@40"),
        ("table-moves-no-stream", waits, "s/a=1@10 t/a=2@90 t/b=3@5 s/a=4@12 s/a=5@15"),
        ("tie-on-grace", waits, "t/a=1@1 s/a=2@10 s/a=3@10 s/b=4@15 s/a=5@10 s/b=6@20"),
    ])  # fmt: skip
    for number in range(10):
        params = {"history": (100, 8, 15)[number % 3], "grace": None if number < 5 else (0, 3, 8)[number % 3]}
        no_key = 0.04 if number < 5 else 0.0  # the engine fails outright on a null key that would have to wait
        inputs = drawn(
            Dice("as-of", number),
            30,
            topics=("stream", "table"),
            keys=("a", "b"),
            late=number * 2,
            null_key=no_key,
            null=0.1,
        )
        yield Given(f"drawn-{number}", params, list(inputs))


def stream_global(_mode: str) -> Iterator[Given]:
    """The stream's values are GROUP:NUMBER, and GROUP is what is looked up; ``:NUMBER`` looks up null."""
    yield from _named([
        ("other-key", {}, "t/x=1@1 s/a=x:1@2 s/b=x:2@3 s/a=y:3@4 t/y=2@5 s/a=y:4@6"),
        ("null-lookup", {}, "t/x=1@1 s/a=:1@2 s/-=x:2@3 s/-=:3@4 s/-=y:4@5"),
        ("null-values", {}, "t/x=1@1 s/a=-@2 s/-=-@3 s/a=x:4@4"),
        ("tombstones", {}, "t/x=1@1 s/a=x:1@2 t/x=-@3 s/a=x:2@4 t/x=5@1 s/a=x:3@2"),
    ])  # fmt: skip

    def value(dice: Dice, number: int, topic: str) -> Any:
        return number if topic == "table" else f"{dice.pick(['x', 'y', 'z', ''])}:{number}"

    for number in range(8):
        dice, found = Dice("stream-global", number), []
        for record in drawn(dice, 24, topics=("stream", "table"), null_key=0.1, late=number * 2, value=value):
            if record.topic == "table":
                record = type(record)("table", dice.pick(["x", "y", "z"]), record.value, record.timestamp)
            found.append(record)
        yield Given(f"drawn-{number}", {}, found)


def _named(rows: list[tuple[str, dict[str, Any], Any]]) -> Iterator[Given]:
    for name, params, inputs in rows:
        yield Given(name, params, given(inputs) if isinstance(inputs, str) else inputs)
