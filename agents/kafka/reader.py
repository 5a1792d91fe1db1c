"""Partitions read in whole batches, from wherever one says: what the worker reads its streams and changelogs by.

Knows no group and commits nothing. All on one event loop, beside the work: a thread of its own had to wait for the
interpreter's lock with each piece of an answer, up to 5 ms each, and a worker stood idle for a fifth of the time.
"""

import asyncio
import copy
import logging
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition, errors
from aiokafka.consumer.fetcher import READ_UNCOMMITTED

from penstock.agents.batch import RecordBatch
from penstock.agents.kafka.client import SteadyClient
from penstock.agents.kafka.fetch_request import Fetched, FetchRequest
from penstock.agents.kafka.topics import topic_ids
from penstock.agents.kafka.unreachable import unreachable
from penstock.agents.kafka.unread import Unread
from penstock.agents.security import PLAINTEXT, Security
from penstock.tables.checkpoint import Partition

log = logging.getLogger("penstock.reader")

FETCH_BYTES = 4 << 20
MAX_RECORDS = 10_000
"""Of a partition at once: what is done with them keeps the event loop busy."""

IDLE = 1, 100
"""What a request asks for where the last one found nothing: (bytes, ms). Answered with the first record."""
FLOWING = 8192, 16
"""Where the last one found records: the broker gathers so many bytes, but never longer. At low rates requests cost, not
records: without it each record is a request of its own."""

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


class PartitionReader:
    """Reads partitions. An async context manager; `start` and `stop` do the same.

    Args:
        servers: bootstrap servers, host:port.
        security: how to connect.
        fetch_bytes: of a partition at once.
        committed: only records of committed transactions, and of none.

    Raises:
        BrokerUnreachable: none of the servers answers.
    """

    def __init__(
        self,
        servers: list[str],
        security: Security = PLAINTEXT,
        *,
        fetch_bytes: int = FETCH_BYTES,
        committed: bool = True,
        **settings: Any,
    ) -> None:
        self._servers, self._security, self._settings = servers, security, settings
        self._fetch_bytes, self._committed = fetch_bytes, committed
        self._logs: dict[TopicPartition, _Log] = {}
        self._asked: dict[int, asyncio.Task[None]] = {}
        self._gathers: dict[int, tuple[int, int]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._errors: list[BaseException] = []
        self._waiter: asyncio.Future[bool] | None = None
        self._offsets: Any = None
        self._client: Any = None

    async def start(self) -> "PartitionReader":
        """Connect."""
        servers: Any = self._servers
        # Of this consumer only the client is used, and what asks where partitions begin and end.
        self._offsets = AIOKafkaConsumer(
            bootstrap_servers=servers,
            **self._security.client_settings(),
            enable_auto_commit=False,
            isolation_level="read_committed" if self._committed else "read_uncommitted",
            **self._settings,
        )
        self._client = self._offsets._client
        self._client.__class__ = SteadyClient
        try:
            await self._offsets.start()
        except errors.KafkaError as exc:
            await self._offsets.stop()
            raise await unreachable(self._servers, self._security) from exc
        return self

    async def stop(self) -> None:
        """Disconnect. Nothing is handed out any more."""
        self._logs.clear()
        tasks = [*self._asked.values(), *self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.interrupt()
        if self._offsets is not None:
            await self._offsets.stop()

    async def __aenter__(self) -> "PartitionReader":
        return await self.start()

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()

    # ---- where partitions begin and end

    async def beginnings(self, partitions: Iterable[Partition]) -> dict[TopicPartition, int]:
        """The first offset of each partition."""
        return await self._offsets.beginning_offsets([TopicPartition(*at) for at in partitions])  # type: ignore[no-any-return]

    async def ends(self, partitions: Iterable[Partition]) -> dict[TopicPartition, int]:
        """Where partitions end for this reader: for one of committed records at the first undecided one."""
        return await self._offsets.end_offsets([TopicPartition(*at) for at in partitions])  # type: ignore[no-any-return]

    async def high_watermarks(self, partitions: Iterable[Partition]) -> dict[TopicPartition, int]:
        """The offsets behind all that is in the logs, decided or not.

        Raises:
            KafkaTimeoutError: No answer within the request timeout.
        """
        # A copy, because the level belongs to the fetcher and not to the request: it shares all else and sends nothing
        # but this one.
        fetcher = copy.copy(self._offsets._fetcher)
        fetcher._isolation_level = READ_UNCOMMITTED
        tps = [TopicPartition(*at) for at in partitions]
        return await fetcher.end_offsets(tps, self._offsets._request_timeout_ms)  # type: ignore[no-any-return]

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

    async def topic_ids(self, topics: Collection[str]) -> dict[str, str]:
        """The ids of topics, see `topics.topic_ids`."""
        return await topic_ids(self._offsets, topics)

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
            self._ask(wanted)
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
                self._asked[node] = asyncio.create_task(self._request(node, logs))

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _refresh(self) -> None:
        """Ask who leads the partitions."""
        try:
            await asyncio.gather(self._client.force_metadata_update(), asyncio.sleep(BACKOFF_SECONDS))
        finally:
            self._wake()

    async def _request(self, node: int, logs: list[tuple[TopicPartition, _Log]]) -> None:
        least, wait_ms = self._gathers.get(node, IDLE)
        asked = {tp: (state, state.position or 0) for tp, state in logs}
        request = FetchRequest(
            [(tp, at) for tp, (_, at) in asked.items()],
            committed=self._committed,
            least=least,
            wait_ms=wait_ms,
            most=self._fetch_bytes,
        )
        try:
            answers = await self._client.send(node, request)
            moved = [self._accept(answer, *asked[answer.tp]) for answer in answers]
            self._gathers[node] = FLOWING if any(answer.records for answer in answers) else IDLE
            if not all(moved):
                await self._refresh()
        except errors.KafkaError as exc:
            if exc.retriable:
                log.warning("node %s did not answer a fetch: %r", node, exc)
            else:
                self._errors.append(exc)
            await asyncio.sleep(BACKOFF_SECONDS)
        except Exception as exc:  # else nothing would come of these partitions, and nobody would hear why
            self._errors.append(exc)
        finally:
            del self._asked[node]
            self._wake()

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
            self._errors.append(exc)
        else:
            log.warning("%s[%d]: offset %s is out of range, going on at %d", *tp, state.position, first)
            state.position, state.lost = first, False
        self._wake()


def _end(waiter: "asyncio.Future[bool] | None", *, came: bool) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(came)
