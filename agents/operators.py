"""Steps at work: each takes a block and passes a block on. A step's cost is a list comprehension over a batch."""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from operator import length_hint
from typing import Any, Protocol

from penstock.agents.batch import RecordBatch, RecordTooLarge
from penstock.agents.block import Block, Record
from penstock.agents.event_time.clocks import InletTime
from penstock.agents.failing.errors import RecordError
from penstock.agents.failing.failures import Explain, Failures
from penstock.agents.failing.policies import FAIL
from penstock.agents.failing.surviving import Surviving
from penstock.agents.keyed.global_rows import GlobalRows
from penstock.tables.partition import TablePartition
from penstock.tables.serdes import Serde
from penstock.tables.specs import TableSpec

Headers = list[Sequence[tuple[str, bytes | None]]] | None
"""The headers of each row; None where no row has any."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Runtime(Protocol):
    """What steps ask of the group they run in."""

    failures: Failures
    """What takes failing records, where their policy is not to fail."""

    def emit(
        self,
        topic: str,
        keys: list[bytes | None],
        values: list[bytes | None],
        timestamps: list[int],
        headers: Headers,
        refused: Callable[[int, RecordTooLarge], None] | None = None,
    ) -> None:
        """Collect records for a topic; they leave with the next checkpoint. Rows that are too large to be sent are
        given to `refused` and left out. Default: they raise RecordTooLarge."""
        ...

    def emit_to(
        self,
        topic: str,
        partition: int,
        keys: list[bytes | None],
        values: list[bytes | None],
        timestamps: list[int],
    ) -> None:
        """As `emit`, to one partition."""
        ...

    def table(self, table: TableSpec, partition: int) -> TablePartition:
        """A partition of a table."""
        ...

    def everywhere(self, table: TableSpec) -> GlobalRows:
        """A global table."""
        ...

    def wall(self) -> int:
        """The wall clock, in ms since 1970."""
        ...

    def late(self, step: str, count: int, example: str) -> None:
        """Records of a step were too late, or too far ahead; one of them is told of."""
        ...


class Operator(Surviving):
    """One step. Subclasses turn a block into another in `run` and hand it to `forward`."""

    def __init__(self, where: str, runtime: Runtime) -> None:
        super().__init__(where, runtime.failures)
        self.runtime = runtime
        self.children: list[Operator] = []

    def run(self, block: Block) -> None:
        """Process a block with at least one row."""
        raise NotImplementedError

    def forward(self, block: Block) -> None:
        """Give a block to every following step."""
        if block.values:
            for child in self.children:
                child.run(block)


def failed_at(block: Block, left: Iterator[Any]) -> int:
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
        self.inlet: InletTime | None = None
        """Who follows the event times of what is read; None where no step behind it keeps time."""
        self._decode = _decoder(value)

    def read(self, batch: RecordBatch) -> None:
        """Decode a batch and process it."""
        block = self.decoded(batch)
        if block.values:
            self.run(block)

    def decoded(self, batch: RecordBatch) -> Block:
        """The values of a batch that decode. Raises RecordError where one does not, and the policy is to fail."""
        if self.policy is FAIL:
            return Block(batch, self.decode(batch))
        block, values = self.survivors(Block(batch, batch.values), self._decode, (batch.values,), self._unread)
        return block.with_values(values)

    def decode(self, batch: RecordBatch) -> list[Any]:
        """The values of a batch. Raises RecordError where one does not decode."""
        left = iter(batch.values)
        decode = self._decode
        try:
            values = list(map(decode, left))
            if len(values) < len(batch.values):  # map() takes a decoder's StopIteration for the end of the batch
                raise ValueError("the decoder raised StopIteration")
        except Exception as exc:
            at = len(batch.values) - length_hint(left) - 1
            self.fail(Block(batch, batch.values), at, exc, self._unread)
        return values

    def run(self, block: Block) -> None:
        if self.time is not None and block.values:
            block, times = self.kept(self.time, block)
            block, stamps = self._stamps(block, times)
            block.stamps = stamps
        if self.inlet is not None and block.values:
            self.inlet.read(block.batch.partition, block.timestamps())
        self.forward(block)

    def _stamps(self, block: Block, times: list[Any]) -> tuple[Block, list[int]]:
        left = iter(times)
        try:
            return block, [t if type(t) is int else milliseconds(t) for t in left]
        except TypeError as exc:
            if self.policy is FAIL:
                raise self._timeless(block, len(times) - length_hint(left) - 1, exc) from exc
        return self.survivors(block, milliseconds, (times,), self._timeless)

    def _timeless(self, block: Block, at: int, exc: Exception) -> RecordError:
        return self.error(block, at, str(exc))

    def _unread(self, block: Block, at: int, exc: Exception) -> RecordError:
        return self._undecodable(block.batch, at if block.rows is None else block.rows[at], exc)

    def _undecodable(self, batch: RecordBatch, row: int, exc: Exception) -> RecordError:
        raw = batch.values[row]
        if raw is None:
            reason = f"the value is null, and the topic's values are {self.value.name}"
            advice = "Declare the value as `T | None`, or read the topic as a table"
        else:
            shown = raw[:120].decode("utf-8", "backslashreplace") + ("..." if len(raw) > 120 else "")
            reason = f"the value does not decode as {self.value.name}: {exc}; it begins with {shown!r}"
            advice = "Mend the producer or the declared type; nothing of it was committed"
        return RecordError(batch.topic, batch.partition_at(row), batch.offsets[row], self.where, reason, advice)


def milliseconds(time: object) -> int:
    """An event time as ms since 1970. Raises TypeError for what is none, and for a datetime without a time zone."""
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
        block, mask = self.kept(self.fn, block)
        self.forward(block if all(mask) else block.where(mask))


class MapOperator(Operator):
    """One value for one, from the value."""

    def __init__(self, where: str, runtime: Runtime, fn: Callable[[Any], Any]) -> None:
        super().__init__(where, runtime)
        self.fn = fn

    def run(self, block: Block) -> None:
        block, values = self.kept(self.fn, block)
        self.forward(block.with_values(values))


class PeekOperator(MapOperator):
    """A look at each value."""

    def run(self, block: Block) -> None:
        block, _ = self.kept(self.fn, block)
        self.forward(block)


class FlatMapOperator(MapOperator):
    """Any number of values for one."""

    def run(self, block: Block) -> None:
        at: list[int] = []
        values: list[Any] = []
        block, lists = self.kept(lambda value: list(self.fn(value)), block)
        for i, several in enumerate(lists):
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
        block, keys = keyed(self, block, self.key)
        fn = self.fn
        if self.policy is not FAIL:
            block, values = self.survivors(block, fn, (keys, block.values), self.raised)
        else:
            left = iter(block.values)
            try:
                values = [fn(key, value) for value, key in zip(left, keys, strict=True)]
            except Exception as exc:
                self.fail(block, failed_at(block, left), exc, self.raised)
        self.forward(block.with_values(values))


class MapRecordOperator(MapItemOperator):
    """One value for one, from the whole record."""

    def run(self, block: Block) -> None:
        block, keys = keyed(self, block, self.key)
        whole = block.with_values(list(records(block, keys)))
        whole, values = self.kept(self.fn, whole)
        self.forward(whole.with_values(values))


def keyed(operator: Operator, block: Block, key: Serde[Any]) -> tuple[Block, list[Any]]:
    """Decoded keys, and the rows that have one that decodes: all of them unless the policy lets it go on."""
    try:
        return block, typed_keys(operator, block, key)
    except RecordError:
        if operator.policy is FAIL:
            raise
    raw = block.raw_keys()
    explain = _key_explained(operator, raw, key)
    return operator.survivors(block, lambda k: None if k is None else key.decode(k), (raw,), explain)


def _key_explained(operator: Operator, raw: Sequence[bytes | None], key: Serde[Any]) -> Explain:
    def explain(block: Block, at: int, exc: Exception) -> RecordError:
        return operator.error(block, at, f"the key {raw[at]!r} does not decode as {key.name}: {exc}")

    return explain


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
        operator.fail(block, at, exc, _key_explained(operator, raw, key))


def records(block: Block, keys: Sequence[Any]) -> Iterator[Record]:
    """The rows as Record objects, for steps that want them whole."""
    topic, headers = block.batch.topic, block.headers()
    rows = zip(keys, block.values, block.timestamps(), strict=True)
    for i, (k, value, stamp) in enumerate(rows):
        yield Record(k, value, stamp, headers[i] if headers else (), topic, block.partition(i), block.offset(i))


class BranchOperator(Operator):
    """Each row to the first arm whose predicate it satisfies; the last child takes the rest. Children are the arms."""

    def __init__(self, where: str, runtime: Runtime, predicates: Sequence[Callable[[Any], Any]]) -> None:
        super().__init__(where, runtime)
        self.predicates = predicates

    def run(self, block: Block) -> None:
        for i, predicate in enumerate(self.predicates):
            if not block.values:
                return
            block, hits = self.kept(predicate, block)
            mask = [bool(hit) for hit in hits]
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
        block, keys = self.kept(self.fn, block)
        self.forward(block.with_keys(keys))
