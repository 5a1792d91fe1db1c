"""Inputs of tables, of their joins, and of regrouped ones."""

from collections.abc import Iterator
from typing import Any

from tests.golden.cases import Input
from tests.golden.inputs.aggregates import MANY
from tests.golden.inputs.notation import Dice, Given, drawn, given

_SIDES = ("left", "right")


def table(_mode: str) -> Iterator[Given]:
    """A topic as a table: the newest to arrive is the row."""
    yield Given("rows", {}, given("a=1@5 b=2@6 a=3@7 a=3@8 b=4@2"))
    yield Given("tombstones", {}, given("a=-@1 a=1@2 a=-@3 a=-@4 b=-@5 a=2@1 a=-@0"))
    yield Given("null-keys", {}, given("-=1@5 a=2@6 -=-@7"))
    for number in range(4):
        yield Given(f"drawn-{number}", {}, list(drawn(Dice("table", number), 20, late=number * 4, null=0.25)))


def table_table(_mode: str) -> Iterator[Given]:
    """Either side's update may come out."""
    rows = [
        ("left-first", "l/a=1@1 r/a=2@2 l/a=3@3 r/a=4@4"),
        ("right-first", "r/a=1@1 l/a=2@2 r/a=3@3 l/a=4@4"),
        ("timestamps", "l/a=1@50 r/a=2@10 l/a=3@20 r/a=4@70 r/a=5@5 l/a=6@60"),
        ("left-deleted", "l/a=1@1 r/a=2@2 l/a=-@3 l/a=-@4 r/a=5@5 l/a=6@2"),
        ("right-deleted", "l/a=1@1 r/a=2@2 r/a=-@3 r/a=-@4 l/a=5@5 r/a=6@2"),
        ("both-deleted", "l/a=1@1 r/a=2@2 l/a=-@3 r/a=-@4 r/a=-@5 l/a=-@6"),
        ("deleted-before-there", "l/a=-@1 r/a=-@2 r/a=1@3 l/a=-@4 r/a=-@5 l/a=2@6 r/a=-@7"),
        ("put-again", "l/a=1@1 l/a=1@2 r/a=2@3 r/a=2@4 l/a=1@5"),
        ("null-keys", "l/-=1@1 r/-=2@2 l/a=3@3 r/-=-@4 r/a=5@5"),
        ("keys-do-not-mix", "l/a=1@1 r/b=2@2 r/a=3@3 l/b=4@4"),
    ]
    for name, records in rows:
        yield Given(name, {}, given(records))
    yield Given("many-keys", {}, list(drawn(Dice("table-table", "many"), 60, topics=_SIDES, keys=MANY[:12], null=0.2)))
    for number in range(10):
        inputs = drawn(Dice("table-table", number), 26, topics=_SIDES, keys=("a", "b"), late=number * 3, null=0.3)
        yield Given(f"drawn-{number}", {}, list(inputs))


def foreign_key(_mode: str) -> Iterator[Given]:
    """The left rows are GROUP:NUMBER, and GROUP is the right table's key; ``:NUMBER`` points nowhere."""
    rows = [
        ("left-first", "l/a=x:1@1 l/b=x:2@2 r/x=3@3 r/x=4@4"),
        ("right-first", "r/x=1@1 l/a=x:2@2 l/b=y:3@3 r/y=4@4 l/a=x:5@5"),
        ("moved", "r/x=1@1 r/y=2@2 l/a=x:3@3 l/a=y:4@4 l/a=z:5@5 l/a=x:6@6 r/y=7@7"),
        ("left-deleted", "r/x=1@1 l/a=x:2@2 l/a=-@3 l/a=-@4 r/x=5@5 l/b=y:6@6 l/b=-@7"),
        ("right-deleted", "r/x=1@1 l/a=x:2@2 l/b=x:3@3 r/x=-@4 r/x=-@5 r/x=6@6"),
        (
            "points-nowhere",
            "r/x=1@1 l/a=:2@2 l/a=x:3@3 l/a=:4@4 l/a=:5@5 l/a=-@6 l/b=:7@7 l/b=-@8",
        ),
        ("put-again", "r/x=1@1 l/a=x:2@2 l/a=x:2@3 r/x=1@4"),
        ("timestamps", "r/x=1@50 l/a=x:2@10 l/a=x:3@70 r/x=4@20 l/a=-@5"),
        ("null-keys", "l/-=x:1@1 r/-=2@2 r/x=3@3 l/a=x:4@4"),
        ("moved-while-absent", "l/a=x:1@1 l/a=y:2@2 r/x=3@3 r/y=4@4 l/a=z:5@5 l/a=-@6"),
    ]
    for name, records in rows:
        yield Given(name, {}, given(records))
    for number in range(10):
        yield Given(f"drawn-{number}", {}, list(_pointing(Dice("foreign-key", number), late=number * 3)))


def _pointing(dice: Dice, late: int) -> Iterator[Input]:
    def value(dice: Dice, number: int, topic: str) -> Any:
        return number if topic == "right" else f"{dice.pick(['x', 'y', 'z', ''])}:{number}"

    for record in drawn(
        dice, 26, topics=_SIDES, keys=("a", "b", "c"), late=late, null=0.15, null_key=0.02, value=value
    ):
        if record.topic == "right" and record.key is not None:
            record = Input("right", dice.pick(["x", "y", "z"]), record.value, record.timestamp)
        yield record


def regrouped(mode: str) -> Iterator[Given]:
    """The rows are GROUP:AMOUNT, and are aggregated by GROUP; ``:AMOUNT`` belongs to none."""
    rows = [
        ("adds", "a=x:1@1 b=x:2@2 c=y:4@3"),
        ("same-group", "a=x:1@1 a=x:5@2 a=x:5@3"),
        ("other-group", "a=x:1@1 b=x:2@2 a=y:5@3 b=y:6@4 a=x:7@5"),
        ("deleted", "a=x:1@1 b=x:2@2 a=-@3 a=-@4 b=-@5 c=-@6 a=x:3@7"),
        ("no-group", "a=:1@1 a=x:2@2 a=:3@3 a=:4@4 a=-@5 b=:6@6 b=-@7"),
        ("timestamps", "a=x:1@50 b=x:2@10 a=x:3@20 b=y:4@5 c=x:5@90 c=-@1"),
        ("null-keys", "-=x:1@1 a=x:2@2 -=-@3"),
        ("down-to-nothing", "a=x:1@9 a=-@3 b=x:2@2 b=y:2@1"),
    ]
    for name, records in rows:
        yield Given(name, {}, given(records))
    groups = lambda dice, _number, _topic: f"{dice.pick(['x', 'y', 'z', ''])}:{1 + dice.below(3)}"  # noqa: E731
    for number in range(10):
        inputs = drawn(
            Dice("regrouped", number), 26, keys=("a", "b", "c", "d"), late=number * 3, null=0.15, value=groups
        )
        yield Given(f"drawn-{number}", {}, list(inputs))
