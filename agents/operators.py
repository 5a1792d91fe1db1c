"""Steps at work: each takes a block and passes a block on. A step's cost is a list comprehension over a batch."""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from operator import length_hint
from typing import Any, Protocol

from penstock.agents.batch import RecordBatch
from penstock.agents.block import Block, Record
from penstock.agents.errors import RecordError
from penstock.tables.aggregates import Aggregation, FailedAt
from penstock.tables.partition import TablePartition
from penstock.tables.serdes import Serde
from penstock.tables.specs import TableSpec

Headers = Sequence[Sequence[tuple[str, bytes | None]]] | None
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Runtime(Protocol):
    """What steps ask of the group they run in."""

    def emit(
        self,
        topic: str,
        keys: Sequence[bytes | None],
        values: Sequence[bytes | None],
        timestamps: Sequence[int],
        headers: Headers,
    ) -> None:
        """Collect records for a topic; they leave with the next checkpoint."""
        ...

    def table(self, table: TableSpec, partition: int) -> TablePartition:
        """A partition of a table."""
        ...


class Operator:
    """One step. Subclasses turn a block into another in `run` and hand it to `forward`."""

    def __init__(self, where: str, runtime: Runtime) -> None:
        self.where, self.runtime = where, runtime
        self.children: list[Operator] = []

    def run(self, block: Block) -> None:
        """Process a block with at least one row."""
        raise NotImplementedError

    def forward(self, block: Block) -> None:
        """Give a block to every following step."""
        if block.values:
            for child in self.children:
                child.run(block)

    def each(self, fn: Callable[[Any], Any], block: Block) -> list[Any]:
        """`fn` of every value. A failure names its record: the iterator knows how far it came, so this is free."""
        left = iter(block.values)
        try:
            return [fn(value) for value in left]
        except Exception as exc:
            raise self.raised(block, _index(block, left), exc) from exc

    def raised(self, block: Block, position: int, exc: Exception) -> RecordError:
        """The user's function raised at a row."""
        return self.error(
            block, position, f"{type(exc).__name__}: {exc}", "Fix the function or filter such records out"
        )

    def error(self, block: Block, position: int, reason: str, advice: str = "") -> RecordError:
        """A RecordError at a row."""
        batch = block.batch
        return RecordError(batch.topic, batch.partition, block.offset(position), self.where, reason, advice)

    def state_keys(self, block: Block) -> list[bytes]:
        """Encoded keys, none of them null."""
        keys = block.raw_keys()
        if None in keys:
            raise self.error(
                block,
                keys.index(None),
                "the record has no key, and this step keeps state by key",
                "Filter such records out, or give them a key with group_by",
            )
        return keys  # type: ignore[return-value]


def _index(block: Block, left: Iterator[Any]) -> int:
    return len(block.values) - length_hint(left) - 1


def _decoder(serde: Serde[Any]) -> Callable[[Any], Any]:
    decode = serde.decode
    if serde.nullable:
        return lambda raw: None if raw is None else decode(raw)
    return decode


class SourceOperator(Operator):
    """Raw records of one topic to a block of decoded values."""

    def __init__(self, where: str, runtime: Runtime, value: Serde[Any], time: Callable[[Any], Any] | None) -> None:
        super().__init__(where, runtime)
        self.value, self.time = value, time
        self._decode = _decoder(value)

    def read(self, batch: RecordBatch) -> None:
        """Decode a batch and process it."""
        left = iter(batch.values)
        decode = self._decode
        try:
            values = [decode(raw) for raw in left]
        except Exception as exc:
            raise self._undecodable(batch, len(batch.values) - length_hint(left) - 1, exc) from exc
        self.run(Block(batch, values))

    def run(self, block: Block) -> None:
        if self.time is not None and block.values:
            times = self.each(self.time, block)
            left = iter(times)
            try:
                block.stamps = [t if type(t) is int else _milliseconds(t) for t in left]
            except TypeError as exc:
                raise self.error(block, len(times) - length_hint(left) - 1, str(exc)) from exc
        self.forward(block)

    def _undecodable(self, batch: RecordBatch, row: int, exc: Exception) -> RecordError:
        raw = batch.values[row]
        if raw is None:
            reason = f"the value is null, and the topic's values are {self.value.name}"
            advice = "Declare the value as `T | None`, or read the topic as a table"
        else:
            shown = raw[:120].decode("utf-8", "backslashreplace") + ("..." if len(raw) > 120 else "")
            reason = f"the value does not decode as {self.value.name}: {exc}; it begins with {shown!r}"
            advice = "Mend the producer or the declared type; nothing of it was committed"
        return RecordError(batch.topic, batch.partition, batch.offsets[row], self.where, reason, advice)


def _milliseconds(time: object) -> int:
    if isinstance(time, datetime) and time.tzinfo is not None:
        return round((time - EPOCH).total_seconds() * 1000)
    if isinstance(time, int):
        return int(time)
    raise TypeError(f"event time is {time!r}; give ms since 1970 as an int, or a datetime with a time zone")


class FilterOperator(Operator):
    """Rows that satisfy a predicate."""

    def __init__(self, where: str, runtime: Runtime, fn: Callable[[Any], Any]) -> None:
        super().__init__(where, runtime)
        self.fn = fn

    def run(self, block: Block) -> None:
        mask = self.each(self.fn, block)
        self.forward(block if all(mask) else block.where(mask))


class MapOperator(Operator):
    """One value for one, from the value."""

    def __init__(self, where: str, runtime: Runtime, fn: Callable[[Any], Any]) -> None:
        super().__init__(where, runtime)
        self.fn = fn

    def run(self, block: Block) -> None:
        self.forward(block.with_values(self.each(self.fn, block)))


class PeekOperator(MapOperator):
    """A look at each value."""

    def run(self, block: Block) -> None:
        self.each(self.fn, block)
        self.forward(block)


class FlatMapOperator(MapOperator):
    """Any number of values for one."""

    def run(self, block: Block) -> None:
        at: list[int] = []
        values: list[Any] = []
        for i, several in enumerate(self.each(lambda value: list(self.fn(value)), block)):
            values += several
            at += [i] * len(several)
        self.forward(block.take(at, values))


class MapItemOperator(Operator):
    """One value for one, from key and value."""

    def __init__(self, where: str, runtime: Runtime, fn: Callable[[Any, Any], Any], key: Serde[Any]) -> None:
        super().__init__(where, runtime)
        self.fn, self.key = fn, key

    fn: Callable[..., Any]

    def run(self, block: Block) -> None:
        keys, fn = typed_keys(self, block, self.key), self.fn
        left = iter(block.values)
        try:
            values = [fn(key, value) for value, key in zip(left, keys, strict=True)]
        except Exception as exc:
            raise self.raised(block, _index(block, left), exc) from exc
        self.forward(block.with_values(values))


class MapRecordOperator(MapItemOperator):
    """One value for one, from the whole record."""

    def run(self, block: Block) -> None:
        self.forward(block.with_values(self.each(self.fn, block.with_values(list(records(self, block, self.key))))))


def typed_keys(operator: Operator, block: Block, key: Serde[Any]) -> list[Any]:
    """Decoded keys; null stays None."""
    if block.keys is not None:
        return block.keys
    decode, raw = key.decode, block.raw_keys()
    left = iter(raw)
    try:
        return [None if k is None else decode(k) for k in left]
    except Exception as exc:
        at = len(raw) - length_hint(left) - 1
        raise operator.error(block, at, f"the key {raw[at]!r} does not decode as {key.name}: {exc}") from exc


def records(operator: Operator, block: Block, key: Serde[Any]) -> Iterator[Record]:
    """The rows as Record objects, for steps that want them whole."""
    batch, headers = block.batch, block.headers()
    rows = zip(typed_keys(operator, block, key), block.values, block.timestamps(), strict=True)
    for i, (k, value, stamp) in enumerate(rows):
        yield Record(k, value, stamp, headers[i] if headers else (), batch.topic, batch.partition, block.offset(i))


class BranchOperator(Operator):
    """Each row to the first arm whose predicate it satisfies; the last child takes the rest. Children are the arms."""

    def __init__(self, where: str, runtime: Runtime, predicates: Sequence[Callable[[Any], Any]]) -> None:
        super().__init__(where, runtime)
        self.predicates = predicates

    def run(self, block: Block) -> None:
        for i, predicate in enumerate(self.predicates):
            if not block.values:
                return
            mask = [bool(hit) for hit in self.each(predicate, block)]
            self._send(i, block.where(mask))
            block = block.where([not hit for hit in mask])
        self._send(len(self.predicates), block)

    def _send(self, arm: int, block: Block) -> None:
        if block.values:
            self.children[arm].run(block)


class PassOperator(Operator):
    """Hands on what it gets: an arm, a merge."""

    def run(self, block: Block) -> None:
        self.forward(block)


class SelectKeyOperator(Operator):
    """Another key for the same rows."""

    def __init__(self, where: str, runtime: Runtime, fn: Callable[[Any], Any]) -> None:
        super().__init__(where, runtime)
        self.fn = fn

    def run(self, block: Block) -> None:
        self.forward(block.with_keys(self.each(self.fn, block)))


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


class AggregateOperator(Operator):
    """A running result per key, kept in a table."""

    def __init__(self, where: str, runtime: Runtime, table: TableSpec, aggregation: Aggregation) -> None:
        super().__init__(where, runtime)
        self.table, self.aggregation = table, aggregation

    def run(self, block: Block) -> None:
        keys = self.state_keys(block)
        distinct = set(keys)
        part = self.runtime.table(self.table, block.batch.partition)
        left = iter(block.values)
        try:
            results = self.aggregation.run(part.load(distinct), keys, left)
        except FailedAt as at:
            cause = at.__cause__ if isinstance(at.__cause__, Exception) else at
            raise self.raised(block, at.index, cause) from cause
        except Exception as exc:
            raise self.raised(block, _index(block, left), exc) from exc
        part.touch(distinct)
        self.forward(block.with_values(results))


class ToTableOperator(Operator):
    """The newest value of each key into a table."""

    def __init__(self, where: str, runtime: Runtime, table: TableSpec) -> None:
        super().__init__(where, runtime)
        self.table = table

    def run(self, block: Block) -> None:
        keys = self.state_keys(block)
        part = self.runtime.table(self.table, block.batch.partition)
        part.rows.update(zip(keys, block.values, strict=True))
        part.touch(keys)
        self.forward(block)


class JoinOperator(Operator):
    """Each row with the table's row of its key."""

    def __init__(
        self, where: str, runtime: Runtime, table: TableSpec, fn: Callable[[Any, Any], Any], left: bool
    ) -> None:
        super().__init__(where, runtime)
        self.table, self.fn, self.left = table, fn, left

    def run(self, block: Block) -> None:
        keys = self.state_keys(block)
        rows = self.runtime.table(self.table, block.batch.partition).load(set(keys))
        found = [rows[key] for key in keys]
        if not self.left and None in found:
            hits = [row is not None for row in found]
            block, found = block.where(hits), [row for row in found if row is not None]
        fn, view, left = self.fn, self.table.view, iter(block.values)
        try:
            values = [fn(value, None if row is None else view(row)) for value, row in zip(left, found, strict=True)]
        except Exception as exc:
            raise self.raised(block, _index(block, left), exc) from exc
        self.forward(block.with_values(values))
