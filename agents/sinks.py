"""Steps that write: to a topic, and to a repartition topic under another key."""

from collections.abc import Callable
from operator import length_hint
from typing import Any

from penstock.agents.block import Block
from penstock.agents.errors import RecordError
from penstock.agents.operators import Operator, Runtime, typed_keys
from penstock.tables.serdes import Serde


class SinkOperator(Operator):
    """Rows to a topic. Keys and values that no step replaced go out as the bytes they came in.

    Args:
        topic: where to.
        key, value: codecs of the topic.
        read_key: codec of the source's keys.
        raw_values: no step on the way here replaces values, and the source's codec is the topic's.
    """

    def __init__(
        self,
        where: str,
        runtime: Runtime,
        topic: str,
        key: Serde[Any],
        value: Serde[Any],
        read_key: Serde[Any],
        raw_values: bool,
    ) -> None:
        super().__init__(where, runtime)
        self.topic, self.key, self.value, self.read_key, self.raw_values = topic, key, value, read_key, raw_values

    def run(self, block: Block) -> None:
        self.runtime.emit(self.topic, self._keys(block), self._values(block), block.timestamps(), block.headers())

    def _keys(self, block: Block) -> list[bytes | None]:
        if block.keys is None and self.key == self.read_key:
            return block.raw_keys()
        keys = typed_keys(self, block, self.read_key)
        return self._encode(block, keys, self.key, "key", nullable=True)

    def _values(self, block: Block) -> list[bytes | None]:
        if self.raw_values:
            return block.raw_values()
        return self._encode(block, block.values, self.value, "value", nullable=self.value.nullable)

    def _encode(
        self, block: Block, column: list[Any], serde: Serde[Any], what: str, *, nullable: bool
    ) -> list[bytes | None]:
        encode, left = serde.encode, iter(column)
        try:
            if nullable or (what == "value" and None in column):
                out = [None if x is None else encode(x) for x in left]
                if not nullable:
                    raise self._null_value(block, column)
                return out
            return [encode(x) for x in left]
        except RecordError:
            raise
        except Exception as exc:
            at = len(column) - length_hint(left) - 1
            reason = f"its {what} {column[at]!r:.120} does not encode as {serde.name}: {exc}"
            raise self.error(block, at, reason, f"Topic {self.topic!r} takes {serde.name}") from exc

    def _null_value(self, block: Block, column: list[Any]) -> RecordError:
        return self.error(
            block,
            next(i for i, x in enumerate(column) if x is None),
            f"its value is None, and topic {self.topic!r} takes {self.value.name}",
            "Declare the topic's value as `T | None` to send tombstones",
        )


class GroupByOperator(SinkOperator):
    """Rows to a repartition topic, under the key that a function takes from the value."""

    def __init__(self, *args: Any, fn: Callable[[Any], Any]) -> None:
        super().__init__(*args)
        self.fn = fn

    def run(self, block: Block) -> None:
        keys = self.each(self.fn, block)
        if None in keys:
            advice = "Filter such records out before the group_by"
            raise self.error(block, keys.index(None), "the function gave no key (None)", advice)
        super().run(block.with_keys(keys))
