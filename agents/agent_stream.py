"""A plain Faust agent body as a step: a coroutine that iterates over a stream, fed one block at a time.

A block is done when the body asks for more than it held, so its progress is one mark per batch and never an ack per
record, and a checkpoint always falls between two blocks.
"""

import asyncio
import inspect
from collections.abc import AsyncIterator, Sequence
from typing import Any, Generic, TypeVar

from penstock.agents.block import Block, Record
from penstock.agents.context import RecordContext
from penstock.agents.failing.errors import RecordError
from penstock.agents.operators import Operator, Runtime, keyed, records
from penstock.agents.topics import Topic
from penstock.tables.serdes import Serde

K = TypeVar("K")
V = TypeVar("V")


class AgentBatch(Generic[K, V]):
    """A run of records of one partition, whole.

    Attributes:
        topic, partition: where it comes from.
        start, next: the offsets it covers, [start, next). The next batch of the partition begins at `next`, so work
            named after `start` is overwritten and not doubled when a crash makes a batch be read again.
        keys, values, timestamps: its records; timestamps in ms.
    """

    def __init__(self, block: Block, keys: list[K | None]) -> None:
        self.topic, self.partition = block.batch.topic, block.batch.partition
        self.start, self.next = block.batch.start, block.batch.next
        self.keys, self.timestamps = keys, block.timestamps()
        self.values: list[V] = block.values

    def __len__(self) -> int:
        return len(self.values)


class AgentStream(Generic[K, V]):
    """What an agent's body iterates over: values; or keys and values, whole records, lists or batches."""

    def __init__(self, operator: "AgentOperator", context: RecordContext) -> None:
        self._operator, self._context = operator, context
        self._block: Block | None = None
        self._row = self._held = 0
        self._wake, self._drained = asyncio.Event(), asyncio.Event()

    async def _blocks(self) -> AsyncIterator[Block]:
        while True:
            await self._wake.wait()
            self._wake.clear()
            assert self._block is not None
            self._context.enter()
            self._context.partition = self._block.batch.partition
            yield self._block
            self._block = None
            self._drained.set()

    async def _keyed(self) -> AsyncIterator[tuple[Block, list[Any]]]:
        """Blocks with their keys decoded."""
        async for block in self._blocks():
            block, keys = keyed(self._operator, block, self._operator.key)
            self._block = block = block.with_keys(keys)
            if keys:
                yield block, keys

    def _at(self, row: int, count: int, timestamp: int) -> None:
        """The body holds some rows."""
        self._row, self._held, self._context.timestamp = row, count, timestamp

    async def __aiter__(self) -> AsyncIterator[V]:
        async for block in self._blocks():
            for row, stamp in enumerate(block.timestamps()):
                self._at(row, 1, stamp)
                yield block.values[row]

    async def items(self) -> AsyncIterator[tuple[K, V]]:
        """(key, value) of each record."""
        async for block, keys in self._keyed():
            for row, stamp in enumerate(block.timestamps()):
                self._at(row, 1, stamp)
                yield keys[row], block.values[row]

    async def events(self) -> AsyncIterator[Record]:
        """Each record whole: key, value, timestamp, headers, topic, partition, offset."""
        async for block, keys in self._keyed():
            for row, record in enumerate(records(block, keys)):
                self._at(row, 1, record.timestamp)
                yield record

    async def take(self, max_: int, within: float | None = None) -> AsyncIterator[Sequence[V]]:
        """Lists of up to `max_` values. A list never waits for records that have not been fetched, and never spans a
        checkpoint, so `within` (seconds, Faust's argument) needs no timer here."""
        async for block in self._blocks():
            stamps = block.timestamps()
            for begin in range(0, len(block), max_):
                values = block.values[begin : begin + max_]
                self._at(begin, len(values), stamps[begin])
                yield values

    async def batches(self) -> AsyncIterator[AgentBatch[K, V]]:
        """Whole batches with their offsets: for sinks that write files or to databases."""
        async for block, keys in self._keyed():
            self._at(0, len(block), max(block.timestamps()))
            yield AgentBatch(block, keys)

    def key(self, block: Block, row: int) -> Any:
        """The decoded key of a row."""
        if block.keys is not None:
            return block.keys[row]
        raw = block.batch.keys[row if block.rows is None else block.rows[row]]
        return None if raw is None else self._operator.key.decode(raw)

    # ---- the other side

    async def feed(self, block: Block, body: "asyncio.Task[None]") -> Block | None:
        """Give the body a block; return when it has asked for more. Raises what the body raised.

        Returns:
            The rows behind those that the body failed at, where the policy lets the step go on: for a new body.
        """
        self._block, self._row, self._held = block, 0, 0
        self._drained.clear()
        self._wake.set()
        drained = asyncio.ensure_future(self._drained.wait())
        try:
            await asyncio.wait((drained, body), return_when=asyncio.FIRST_COMPLETED)
        finally:
            drained.cancel()
        if self._block is not None and body.done():
            return self._stopped(body, self._block)
        return None

    def _stopped(self, body: "asyncio.Task[None]", block: Block) -> Block:
        operator, row, behind = self._operator, self._row, self._row + self._held
        exc = asyncio.CancelledError() if body.cancelled() else body.exception()
        if isinstance(exc, RecordError):
            raise exc
        if isinstance(exc, Exception):
            if not self._held:  # before its first record: no record is at fault
                operator.fail(block, row, exc, operator.raised)
            for at in range(row, behind):
                operator.failed(block, at, exc, operator.raised)
            return block.where([at >= behind for at in range(len(block))])
        advice = "Iterate with `async for` for as long as the stream gives records"
        raise operator.error(block, row, "the agent's body ended while records are coming", advice)


class AgentOperator(Operator):
    """Collects blocks while a batch passes the plain steps; `drain` then runs the body over them."""

    def __init__(
        self,
        where: str,
        runtime: Runtime,
        fn: Any,
        key: Serde[Any],
        to: Topic[Any, Any] | None,
        context: RecordContext,
    ) -> None:
        super().__init__(where, runtime)
        self.fn, self.key, self.to, self.context = fn, key, to, context
        self._pending: list[Block] = []
        self._stream: AgentStream[Any, Any] | None = None
        self._body: asyncio.Task[None] | None = None

    def run(self, block: Block) -> None:
        self._pending.append(block)

    async def drain(self) -> None:
        """Run the body over what was collected."""
        pending, self._pending = self._pending, []
        for block in pending:
            left: Block | None = block
            while left is not None and left.values:
                if self._stream is None or self._body is None or self._body.done():
                    self._stream = AgentStream(self, self.context)
                    self._body = asyncio.ensure_future(self._run_body(self._stream))
                left = await self._stream.feed(left, self._body)

    async def _run_body(self, stream: AgentStream[Any, Any]) -> None:
        running = self.fn(stream)
        if not inspect.isasyncgen(running):
            await running
            return
        async for value in running:
            if self.to is not None:
                self._forward(stream, value)

    def _forward(self, stream: AgentStream[Any, Any], value: Any) -> None:
        assert self.to is not None
        block, row = stream._block, stream._row
        key = None if block is None else stream.key(block, row)
        self.context.send(self.to, key, value, None)

    async def stop(self) -> None:
        """End the body; what it had not finished is not committed."""
        body, self._body, self._stream, self._pending = self._body, None, None, []
        if body is not None:
            body.cancel()
            await asyncio.gather(body, return_exceptions=True)
