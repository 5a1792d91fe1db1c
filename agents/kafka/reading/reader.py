"""Partitions read in whole batches, from wherever one says: what the worker reads its streams and changelogs by.

Knows no group and commits nothing. All on one event loop, beside the work: a thread of its own had to wait for the
interpreter's lock with each piece of an answer, up to 5 ms each, and a worker stood idle for a fifth of the time.
"""

import asyncio
import logging
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from aiokafka import TopicPartition, errors

from penstock.agents.batch import RecordBatch
from penstock.agents.kafka.reading.ends import PartitionEnds
from penstock.agents.kafka.reading.fetch_request import Fetched, FetchRequest
from penstock.agents.kafka.reading.unread import Unread
from penstock.agents.security import PLAINTEXT, Security
from penstock.tables.checkpoint import Partition

log = logging.getLogger("penstock.reader")

FETCH_BYTES = 4 << 20
MAX_RECORDS = 10_000
"""Of a partition at once: what is done with them keeps the event loop busy."""

IDLE = 1, 100
"""What a request asks for where the last one found nothing: (bytes, ms). Answered with the first record."""
FLOWING = 8192, 50
"""Where the last one found records: the broker gathers so many bytes, but never longer. At low rates requests cost, not
records: without it each record is a request of its own."""
QUICK = 4608, 40
"""The same for whoever puts out at once what it reads: a millisecond and a half less from end to end at 5,000
records/s, for a quarter more processor time. Measured from 4 to 8 kB: each kB is half a millisecond."""

LATE_SECONDS = 0.005
"""For an answer to arrive that the broker gives because the time is over."""

QUIET = 64 << 10
"""Bytes of an answer below which there is no backlog: what came is worked on before more is asked for. The broker
gathers for longer than that takes, and the records at hand would wait for the writing of a request."""

BACKOFF_SECONDS = 0.1
"""Before a broker that did not answer, or does not lead a partition any more, is asked again."""

_ELSEWHERE = {9, 74, 75, 78}
"""Codes of errors that pass once the leader is known anew, beside those that aiokafka knows to be such: the replica is
not available, the leader's epoch is an old one or not known yet, the leader does not know its offsets yet."""


class _Log:
    """A partition that is read."""

    __slots__ = ("lost", "position", "stable", "unread")

    def __init__(self) -> None:
        self.position: int | None = None  # of the next record to be handed out; None until a seek
        self.unread: Unread | None = None
        self.stable: int | None = None
        self.lost = False  # the position is out of range, and where the log begins is being asked for


class _Answer:
    """Takes what a broker says, for a reader."""

    __slots__ = ("_asked", "_node", "_reader")

    def __init__(self, reader: "PartitionReader", node: int, asked: Mapping[TopicPartition, tuple[_Log, int]]) -> None:
        self._reader, self._node, self._asked = reader, node, asked

    def done(self) -> bool:
        return self._reader.stopped

    def set_result(self, answers: list[Fetched]) -> None:
        self._reader._came(self._node, self._asked, answers)

    def set_exception(self, exc: BaseException) -> None:
        self._reader._failed(self._node, exc)


class PartitionReader(PartitionEnds):
    """Reads partitions. An async context manager; `start` and `stop` do the same.

    Args:
        servers, security, committed, settings: as for PartitionEnds. Undecided records, and aborted ones, are left out
            where only committed ones are wanted.
        fetch_bytes: of a partition at once.
        flowing: bytes and ms for which a request waits, where the last one found records.
    """

    def __init__(
        self,
        servers: list[str],
        security: Security = PLAINTEXT,
        *,
        fetch_bytes: int = FETCH_BYTES,
        committed: bool = True,
        flowing: tuple[int, int] = FLOWING,
        **settings: Any,
    ) -> None:
        super().__init__(servers, security, committed=committed, **settings)
        self._fetch_bytes, self._flowing = fetch_bytes, flowing
        self._logs: dict[TopicPartition, _Log] = {}
        self._asked: set[int] = set()  # brokers that owe an answer, or are left alone for a moment
        self._gathers: dict[int, tuple[int, int]] = {}
        self._fast: set[int] = set()  # brokers that had gathered as much before the time was over
        self._patience: dict[int, asyncio.TimerHandle] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._quiet = False
        self._errors: list[BaseException] = []
        self._waiter: asyncio.Future[bool] | None = None
        self.stopped = False

    async def stop(self) -> None:
        """Disconnect. Nothing is handed out any more."""
        self.stopped = True
        self._logs.clear()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.interrupt()
        await super().stop()

    # ---- what is read, and from where

    def assign(self, partitions: Iterable[Partition]) -> None:
        """Read these from now on, each from where `seek` says; none is read before."""
        self._logs = {TopicPartition(*at): _Log() for at in partitions}
        self._errors.clear()
        if self._logs:
            self._client.set_topics({tp.topic for tp in self._logs})

    def seek(self, positions: Mapping[Any, int]) -> None:
        """Go on at these offsets. Partitions that are not assigned are left out."""
        for tp, offset in positions.items():
            if (state := self._logs.get(tp)) is not None:
                state.position, state.unread, state.lost = offset, None, False
        self._wake()

    async def begin(self, starts: Mapping[Partition, int]) -> dict[Partition, int]:
        """Read these partitions, from these offsets or from where they begin by now.

        Returns:
            Where reading begins: what lies before was deleted.
        """
        self.assign(starts)
        first = await self.beginnings(starts)
        begins = {tp: max(starts[tp], first[tp]) for tp in first}
        self.seek(begins)
        return {(tp.topic, tp.partition): begin for tp, begin in begins.items()}

    def position(self, tp: Any) -> int | None:
        """The offset of the next record to be handed out; None before a seek."""
        state = self._logs.get(tp)
        return state.position if state is not None else None

    def end(self, tp: Any) -> int | None:
        """Where a partition ended for readers of committed records when it was last asked; None before an answer."""
        state = self._logs.get(tp)
        return state.stable if state is not None else None

    def fetch_at_once(self, size: int) -> int:
        """Fetch up to so many bytes of a partition from now on. Returns how many it was before."""
        before, self._fetch_bytes = self._fetch_bytes, size
        return before

    # ---- reading

    async def batches(self, timeout: float) -> list[RecordBatch]:
        """What has come, at most one batch of each partition; empty after so many seconds without any."""
        return list((await self.fetch(None, timeout)).values())

    async def fetch(
        self, wanted: Collection[Any] | None, timeout: float, most: int | None = MAX_RECORDS
    ) -> dict[TopicPartition, RecordBatch]:
        """What has come, and ask for more, which arrives while this is worked on.

        Args:
            wanted: partitions; what came for others stays where it is. None wants all.
            timeout: longest wait in seconds.
            most: records of a partition, softly: a wire batch stays whole.

        Returns:
            At most one batch of each partition, those without records too where the log has none that are visible;
            empty after the timeout, and where `interrupt` or `stop` ended the wait.

        Raises:
            KafkaError: what the broker said of a partition, or a record that cannot be read. Batches of other
                partitions go first.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        while True:
            found = self._taken(wanted, most)
            if not self._quiet:
                self._ask(wanted)
            elif not found:
                loop.call_soon(self._ask, wanted)
            if found:
                return found
            if self._errors:
                raise self._errors.pop(0)
            if not await self._arrival(loop, deadline):
                return {}

    def interrupt(self) -> None:
        """End a `fetch` that waits: what it waits for has changed."""
        _end(self._waiter, came=False)

    def _wake(self) -> None:
        _end(self._waiter, came=True)

    async def _arrival(self, loop: asyncio.AbstractEventLoop, deadline: float) -> bool:
        """Wait until there may be something. False once time is up, or it was interrupted."""
        left = deadline - loop.time()
        if left <= 0:
            return False
        waiter = self._waiter = loop.create_future()
        timer = loop.call_later(left, self.interrupt)
        try:
            return bool(await waiter)
        finally:
            timer.cancel()
            self._waiter = None

    def _taken(self, wanted: Collection[Any] | None, most: int | None) -> dict[TopicPartition, RecordBatch]:
        found: dict[TopicPartition, RecordBatch] = {}
        for tp, state in self._logs.items():
            unread = state.unread
            if unread is None or (wanted is not None and tp not in wanted):
                continue
            try:
                batch = unread.take(most)
            except errors.KafkaError as exc:
                state.unread = None
                self._errors.append(exc)
                continue
            state.position = batch.next
            if not unread:
                state.unread = None
            if batch.next > batch.start:
                found[tp] = batch
        return found

    # ---- asking

    def _ask(self, wanted: Collection[Any] | None) -> None:
        """Ask each broker that owes no answer for the partitions of which nothing is left. Not while records of another
        of its partitions wait: they would wait longer, behind its answer."""
        due: dict[int | None, list[tuple[TopicPartition, _Log]]] = {}
        busy: set[int | None] = set()
        for tp, state in self._logs.items():
            if state.position is None or state.lost or (wanted is not None and tp not in wanted):
                continue
            node = self._client.cluster.leader_for_partition(tp)
            if state.unread is not None:
                busy.add(node)
            else:
                due.setdefault(node, []).append((tp, state))
        for node, logs in due.items():
            if node is None or node == -1:
                if not self._tasks:
                    self._spawn(self._refresh())
            elif node not in self._asked and node not in busy:
                self._request(node, logs)

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._over)

    def _over(self, task: asyncio.Task[None]) -> None:
        """A task has ended. Where it failed, what it was for would wait, and nobody would hear why."""
        self._tasks.discard(task)
        if not task.cancelled() and (exc := task.exception()) is not None:
            self._errors.append(exc)
            self._wake()

    async def _refresh(self) -> None:
        """Ask who leads the partitions."""
        try:
            await asyncio.gather(self._client.force_metadata_update(), asyncio.sleep(BACKOFF_SECONDS))
        finally:
            self._wake()

    def _request(self, node: int, logs: list[tuple[TopicPartition, _Log]]) -> None:
        """Ask a broker, without a task: its answer is taken as it comes from the socket."""
        self._asked.add(node)
        connection = self._client.connected(node)
        if connection is None:
            self._spawn(self._connect(node))
            return
        least, wait_ms = self._gathers.get(node, IDLE)
        asked = {tp: (state, state.position or 0) for tp, state in logs}
        request = FetchRequest(
            [(tp, at) for tp, (_, at) in asked.items()],
            committed=self._committed,
            least=least,
            wait_ms=wait_ms,
            most=self._fetch_bytes,
        )
        fast = node in self._fast
        try:
            connection.ask(request, _Answer(self, node, asked), least if fast else 1)
        except errors.KafkaError as exc:
            self._failed(node, exc)
            return
        if fast:  # less will come if the flow ends
            loop = asyncio.get_running_loop()
            self._patience[node] = loop.call_later(wait_ms / 1000 + LATE_SECONDS, connection.relax)

    async def _connect(self, node: int) -> None:
        try:
            if not await self._client.ready(node):
                await asyncio.sleep(BACKOFF_SECONDS)
        finally:
            self._returned(node)

    def _returned(self, node: int) -> None:
        """The broker may be asked again."""
        self._asked.discard(node)
        if (patience := self._patience.pop(node, None)) is not None:
            patience.cancel()
        self._wake()

    def _came(self, node: int, asked: Mapping[TopicPartition, tuple[_Log, int]], answers: list[Fetched]) -> None:
        try:
            moved = [self._accept(answer, *asked[answer.tp]) for answer in answers]
            size = sum(len(answer.records) for answer in answers)
            self._gathers[node] = self._flowing if size else IDLE
            (self._fast.add if size >= self._flowing[0] else self._fast.discard)(node)
            self._quiet = size < QUIET
            if not all(moved):  # asked at once, it would say the same again
                self._client.force_metadata_update()
                self._spawn(self._alone(node))
                return
        except Exception as exc:  # else nothing would come of these partitions, and nobody would hear why
            self._errors.append(exc)
        self._returned(node)

    def _failed(self, node: int, exc: BaseException) -> None:
        """There is no answer: ask again in a moment."""
        if isinstance(exc, errors.KafkaError) and not exc.retriable:
            self._errors.append(exc)
        else:
            log.warning("node %s did not answer a fetch: %r", node, exc)
        self._spawn(self._alone(node))

    async def _alone(self, node: int) -> None:
        try:
            await asyncio.sleep(BACKOFF_SECONDS)
        finally:
            self._returned(node)

    def _accept(self, answer: Fetched, state: _Log, position: int) -> bool:
        """Keep what came of a partition, unless it is not wanted any more. False where its leader is another one."""
        if self._logs.get(answer.tp) is not state or state.position != position:
            return True
        if answer.code:
            return self._refused(answer, state)
        state.stable = answer.stable
        if len(answer.records):
            unread = Unread(answer.tp, position, answer.records, answer.aborted if self._committed else None)
            state.unread = unread or None
        return True

    def _refused(self, answer: Fetched, state: _Log) -> bool:
        error = errors.for_code(answer.code)
        if error is errors.OffsetOutOfRangeError:
            state.lost = True
            self._spawn(self._reset(answer.tp, state))
        elif error.retriable or answer.code in _ELSEWHERE:
            return False
        else:
            self._errors.append(error(f"{answer.tp.topic}[{answer.tp.partition}]"))
        return True

    async def _reset(self, tp: TopicPartition, state: _Log) -> None:
        """Go to the beginning of a partition whose records at the position were deleted."""
        try:
            first = (await self.beginnings([tp]))[tp]
        except errors.KafkaError as exc:
            if state.lost:
                self._errors.append(exc)
                state.lost = False  # to be found out again
        else:
            if not state.lost or self._logs.get(tp) is not state:
                return  # a seek was faster
            log.warning("%s[%d]: offset %s is out of range, going on at %d", *tp, state.position, first)
            state.position, state.lost = first, False
        self._wake()


def _end(waiter: "asyncio.Future[bool] | None", *, came: bool) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(came)
