"""Steps that write: to a topic, and to a repartition topic under another key."""

from collections.abc import Callable
from operator import length_hint
from typing import Any

from penstock.agents.batch import RecordTooLarge
from penstock.agents.block import Block
from penstock.agents.failing.errors import RecordError
from penstock.agents.failing.failures import Explain
from penstock.agents.failing.policies import FAIL, final
from penstock.agents.operators import Operator, Runtime, keyed
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
        block, keys = self._keys(block)
        if self.policy is FAIL:
            values = self._values(block)
        else:
            block, values = self._encodable(block.with_keys(keys))
            keys = block.keys or []
        if keys:
            large = None if self.policy is FAIL else self._large(block)
            self.runtime.emit(self.topic, keys, values, block.timestamps(), block.headers(), large)

    def _keys(self, block: Block) -> tuple[Block, list[bytes | None]]:
        if block.keys is None and self.key == self.read_key:
            return block, block.raw_keys()
        block, keys = keyed(self, block, self.read_key)
        try:
            return block, self._encode(block, keys, self.key, "key", nullable=True)
        except RecordError:
            if self.policy is FAIL:
                raise
        encode = self.key.encode
        explain = self._explained(keys, self.key, "key")
        return self.survivors(block, lambda key: None if key is None else encode(key), (keys,), explain)

    def _values(self, block: Block) -> list[bytes | None]:
        if self.raw_values:
            return block.raw_values()
        return self._encode(block, block.values, self.value, "value", nullable=self.value.nullable)

    def _encodable(self, block: Block) -> tuple[Block, list[bytes | None]]:
        """The rows whose values encode."""
        if self.raw_values:
            return block, block.raw_values()
        encode, values = self.value.encode, block.values
        if None in values:
            if self.value.nullable:
                encode = lambda value: None if value is None else self.value.encode(value)  # type: ignore[assignment, return-value] # noqa: E731
            else:
                nulls = [at for at, value in enumerate(values) if value is None]
                block = self.refused(block, nulls, *self._null_value())
        return self.survivors(block, encode, (block.values,), self._explained(block.values, self.value, "value"))

    def _encode(
        self, block: Block, column: list[Any], serde: Serde[Any], what: str, *, nullable: bool
    ) -> list[bytes | None]:
        encode, left = serde.encode, iter(column)
        if not nullable and what == "value" and None in column:
            self.refused(block, [next(i for i, x in enumerate(column) if x is None)], *self._null_value())
        try:
            if nullable:
                return [None if x is None else encode(x) for x in left]
            return [encode(x) for x in left]
        except Exception as exc:
            self.fail(block, len(column) - length_hint(left) - 1, exc, self._explained(column, serde, what))

    def _explained(self, column: list[Any], serde: Serde[Any], what: str) -> Explain:
        def explain(block: Block, at: int, exc: Exception) -> RecordError:
            reason = f"its {what} {column[at]!r:.120} does not encode as {serde.name}: {exc}"
            return self.error(block, at, reason, f"Topic {self.topic!r} takes {serde.name}")

        return explain

    def _null_value(self) -> tuple[str, str]:
        reason = f"its value is None, and topic {self.topic!r} takes {self.value.name}"
        return reason, "Declare the topic's value as `T | None` to send tombstones"

    def _large(self, block: Block) -> Callable[[int, RecordTooLarge], None]:
        """Takes the rows that the producer refuses."""

        def explain(block: Block, at: int, exc: Exception) -> RecordError:
            return self.error(block, at, str(exc), "Make its output smaller")

        def refused(at: int, exc: RecordTooLarge) -> None:
            if final(self.policy) is FAIL:
                raise explain(block, at, exc) from exc
            self.failures.take(self.where, self.policy, block, at, exc, explain)

        return refused


class GroupByOperator(SinkOperator):
    """Rows to a repartition topic, under the key that a function takes from the value."""

    def __init__(self, *args: Any, fn: Callable[[Any], Any]) -> None:
        super().__init__(*args)
        self.fn = fn

    def run(self, block: Block) -> None:
        block, keys = self.kept(self.fn, block)
        block = block.with_keys(keys)
        if None in keys:
            nulls = [at for at, key in enumerate(keys) if key is None]
            advice = "Filter such records out before the group_by"
            block = self.refused(block, nulls, "the function gave no key (None)", advice)
        super().run(block)
