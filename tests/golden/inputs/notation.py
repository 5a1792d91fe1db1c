"""How inputs are written by hand, and drawn."""

import random
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

from tests.golden.cases import Input

T = TypeVar("T")

_TOPICS = {None: "in", "l": "left", "r": "right", "s": "stream", "t": "table"}
_RECORD = re.compile(r"(?:([lrst])/)?([^=\s]+)=(\S+)@(\d+)")


class Given(NamedTuple):
    """What a case puts in: results are for Kafka Streams, or a model, to say."""

    name: str
    params: dict[str, Any]
    inputs: Sequence[Input]


def given(text: str) -> list[Input]:
    """Records as ``TOPIC/KEY=VALUE@TIMESTAMP``, in order: ``-`` is null; of a topic's name there is the first
    letter, and nothing of ``in``.

    >>> given("a=1@5  l/-=x:2@7")
    [Input(topic='in', key='a', value=1, timestamp=5), Input(topic='left', key=None, value='x:2', timestamp=7)]
    """
    found = []
    for word in text.split():
        match = _RECORD.fullmatch(word)
        if match is None:
            raise ValueError(f"not a record: {word!r}")
        topic, key, value, timestamp = match.groups()
        known: Any = None if value == "-" else int(value) if value.lstrip("-").isdigit() else value
        found.append(Input(_TOPICS[topic], None if key == "-" else key, known, int(timestamp)))
    return found


class Dice:
    """Draws that stay the same: over `random()` alone, which Python promises to keep for a seed.

    Args:
        seed: whatever names the case.
    """

    def __init__(self, *seed: Any) -> None:
        self._random = random.Random(zlib.crc32(repr(seed).encode())).random

    def below(self, end: int) -> int:
        """A whole number from 0 to before `end`."""
        return int(self._random() * end)

    def pick(self, some: Sequence[T]) -> T:
        """One of them."""
        return some[self.below(len(some))]

    def chance(self, probability: float) -> bool:
        """True as often as that."""
        return self._random() < probability


def drawn(
    dice: Dice,
    count: int,
    *,
    topics: Sequence[str] = ("in",),
    keys: Sequence[str] = ("a", "b", "c"),
    step: int = 3,
    late: int = 0,
    jump: int = 0,
    null_key: float = 0.04,
    null: float = 0.08,
    value: Callable[[Dice, int, str], Any] = lambda _dice, number, _topic: number,
) -> Iterator[Input]:
    """Records whose newest timestamp moves by up to `step` each, from near 0.

    Args:
        dice: what draws them.
        count: how many.
        topics: equally many to each.
        keys: equally many of each.
        step: see above.
        late: half of the records are up to so many ms behind the newest.
        jump: one in 15 moves time by so much.
        null_key: the share of null keys.
        null: the share of null values.
        value: the value of the record with a number, counted from 1, to a topic.
    """
    now = dice.below(step + 1)
    for number in range(1, count + 1):
        now += jump if jump and dice.chance(1 / 15) else dice.below(step + 1)
        timestamp = max(0, now - dice.below(late + 1)) if late and dice.chance(0.5) else now
        topic = dice.pick(topics)
        key = None if dice.chance(null_key) else dice.pick(keys)
        yield Input(topic, key, None if dice.chance(null) else value(dice, number, topic), timestamp)
