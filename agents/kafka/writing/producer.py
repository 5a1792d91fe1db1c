"""An idempotent producer of whole record batches: in order, never twice by a retry, and without a task or a wait of
the event loop for each request.

Of a partition up to five batches are on their way at once, each with its sequence number (KIP-98): that is how many a
broker remembers. Where one fails, those behind it are refused as out of order, or were written already; once all have
been answered, everything from the first failed one on is sent again under the same numbers, and the broker leaves out
what it has.
"""

import asyncio
import contextlib
import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from aiokafka import TopicPartition, errors
from aiokafka.protocol.transaction import InitProducerIdRequest

from penstock.agents.kafka.client import SteadyClient
from penstock.agents.kafka.protocol import FENCED_PRODUCER
from penstock.agents.kafka.writing.lanes import WINDOW, WRAP, Address, Batch, Lane, Sent
from penstock.agents.kafka.writing.mending import Mending
from penstock.agents.kafka.writing.produce_request import ProduceRequest, Written
from penstock.agents.security import PLAINTEXT, Security

log = logging.getLogger("penstock.producer")

REQUEST_TIMEOUT_MS = 15_000
BACKOFF_SECONDS = 0.05
"""Before what failed is sent again."""
REQUEST_BYTES = 16 << 20
"""Of a request, softly. Brokers take 100 MiB."""

_DUPLICATE, _OUT_OF_ORDER = 46, 45


class _Reply:
    """Takes the answer to a request, at once."""

    __slots__ = ("_batches", "_first", "_node", "_producer")

    def __init__(self, producer: "BatchProducer", node: int, batches: list[Sent], *, first: bool) -> None:
        self._producer, self._node, self._batches, self._first = producer, node, batches, first

    def done(self) -> bool:
        return False

    def set_result(self, answer: list[Written]) -> None:
        self._producer._returned(self._node, first=self._first)
        self._producer._answered(self._batches, answer)

    def set_exception(self, exc: BaseException) -> None:
        self._producer._returned(self._node, first=self._first)
        self._producer._lost(self._node, self._batches, exc)


class BatchProducer(Mending):
    """Sends batches. An async context manager; `start` and `stop` do the same.

    Args:
        servers: bootstrap servers, host:port.
        security: how to connect.
        request_timeout_ms: after which a broker that does not answer is asked again, by a new connection.
        retry_backoff_ms: before what failed is sent again.
    """

    transactional_id: str | None = None

    def __init__(
        self,
        servers: list[str],
        security: Security = PLAINTEXT,
        *,
        request_timeout_ms: int = REQUEST_TIMEOUT_MS,
        retry_backoff_ms: int = round(1000 * BACKOFF_SECONDS),
    ) -> None:
        super().__init__(request_timeout_ms, retry_backoff_ms / 1000)
        self._servers, self._security = servers, security
        self._id, self._epoch = -1, -1
        self._lanes: dict[Address, Lane] = {}
        self._asked: Counter[int] = Counter()  # by broker, requests without an answer
        self._first: set[int] = set()  # brokers that have the first batches of a transaction
        self._open: set[Sent] = set()  # neither written nor refused
        self._connecting: set[int] = set()
        self._room: asyncio.Future[None] | None = None  # for who waits until less is on its way
        self._drained: asyncio.Future[None] | None = None  # for who waits until nothing is
        self._failure: Exception | None = None
        self.size_bytes = 0
        """Bytes taken and not acknowledged yet, before compression."""

    # ---- from start to stop

    async def start(self) -> None:
        """Connect, and get an id.

        Raises:
            KafkaConnectionError: none of the servers answers.
            KafkaError: the broker gives no id.
        """
        self._client = SteadyClient(
            bootstrap_servers=self._servers,
            client_id=self._name(),
            request_timeout_ms=self._timeout_ms,
            retry_backoff_ms=round(1000 * self._backoff),
            **self._security.client_settings(),
        )
        try:
            await self._client.bootstrap()
            await self._identify()
        except BaseException:
            await self._client.close()
            raise

    def _name(self) -> str:
        return "penstock" if self.transactional_id is None else f"penstock-{self.transactional_id}"

    async def stop(self) -> None:
        """Send what was taken, for as long as a request may take, then disconnect. What is left raises
        ProducerClosed."""
        if self._open and self._failure is None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._timeout_ms / 1000):
                    await self.flush()
        self._fail(self._failure or errors.ProducerClosed("the producer was stopped before"))
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._client is not None:
            await self._client.close()

    async def __aenter__(self) -> "BatchProducer":
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()

    @property
    def client(self) -> SteadyClient:
        """Its connections. Raises RuntimeError before `start`."""
        if self._client is None:
            raise RuntimeError("the producer is used before it is started")
        return self._client  # type: ignore[no-any-return]

    async def _identify(self) -> None:
        """Get a producer id, from any broker."""
        while True:
            try:
                answer = await self.client.send(self.client.get_random_node(), InitProducerIdRequest(None, 0))
                if not answer.error_code:
                    self._id, self._epoch = answer.producer_id, answer.producer_epoch
                    return
                error = errors.for_code(answer.error_code)()
            except errors.KafkaError as exc:
                error = exc
            if not error.retriable:
                raise error
            log.warning("no producer id yet: %r", error)
            await asyncio.gather(self.client.force_metadata_update(), asyncio.sleep(self._backoff))

    # ---- sending

    async def send_all(self, batches: Iterable[Batch]) -> list[Sent]:
        """Take batches, those of a partition in order. Returns before they are written.

        Raises:
            KafkaError: why this producer can send nothing any more, or nothing to one of the partitions: a batch of it
                was refused, and the broker misses its numbers. Go on with another producer.
        """
        return self.send(batches)

    def send(self, batches: Iterable[Batch]) -> list[Sent]:
        """See `send_all`."""
        if self._failure is not None:
            raise self._failure
        loop = asyncio.get_running_loop()
        taken = []
        for at, builder in batches:
            lane = self._lanes.get(at)
            if lane is None:
                lane = self._lanes[at] = Lane(known=self.transactional_id is None)
                self.client.add_topic(at[0])
            if lane.broken is not None:
                raise lane.broken
            sent = Sent(at, builder, loop.create_future())
            self._open.add(sent)
            self.size_bytes += sent.size
            lane.waiting.append(sent)
            self._due[at] = lane
            taken.append(sent)
        self._pump()
        return taken

    async def room(self, most: int) -> None:
        """Return once less than so many bytes are on their way, or the producer has failed."""
        while self.size_bytes >= most and self._failure is None:
            if self._room is None:
                self._room = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._room)

    def _unanswered(self) -> list[Address]:
        return sorted(at for at, lane in self._lanes.items() if lane.flying or lane.again or lane.waiting)

    async def flush(self) -> None:
        """Return once everything taken is written or refused."""
        while self._open:
            if self._drained is None:
                self._drained = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._drained)

    def _pump(self) -> None:
        """Send what may go: to each broker with less than `WINDOW` requests, the next batch of each partition."""
        cluster, going = self.client.cluster, True
        while going and self._due:
            going = False
            nodes: defaultdict[int, list[Lane]] = defaultdict(list)
            sizes: Counter[int] = Counter()
            for at, lane in self._due.items():
                if not lane.ready():
                    continue
                node = cluster.leader_for_partition(TopicPartition(*at))
                if node is None or node < 0:
                    self._mend()
                elif (
                    (not lane.flying or lane.node == node)  # another leader would miss what is on its way to the last
                    and self._asked[node] < WINDOW
                    and sizes[node] < REQUEST_BYTES
                    and (lane.known or node not in self._first)
                ):
                    nodes[node].append(lane)
                    sizes[node] += lane.waiting[0].size
            for node, lanes in nodes.items():
                going = self._request(node, lanes) or going

    def _request(self, node: int, lanes: Sequence[Lane]) -> bool:
        """Send the next batch of each. False: there is no connection yet."""
        connection = self.client.connected(node)
        if connection is None:
            if node not in self._connecting:
                self._connecting.add(node)
                self._spawn(self._connect(node))
            return False
        batches, wire, first = [], [], False
        for lane in lanes:
            sent = lane.waiting.popleft()
            if not lane.waiting:
                self._due.pop(sent.at, None)
            if sent.sequence is None:
                sent.sequence, lane.next = lane.next, (lane.next + sent.count) % WRAP
                sent.builder._set_producer_state(self._id, self._epoch, sent.sequence)
            try:
                wire.append((*sent.at, sent.builder._build()))
            except Exception as exc:  # a compression that is not installed
                self._break(lane, sent, exc)
                continue
            batches.append(sent)
            lane.flying.append(sent)
            lane.node, first = node, first or not lane.known
        if not wire:
            return True
        self._asked[node] += 1
        if first:
            self._first.add(node)
        request = ProduceRequest(self.transactional_id, self._timeout_ms, wire)
        try:
            connection.ask(request, _Reply(self, node, batches, first=first))
        except errors.KafkaError as exc:
            self._returned(node, first=first)
            self._lost(node, batches, exc)
        return True

    async def _connect(self, node: int) -> None:
        try:
            if not await self.client.ready(node):
                await asyncio.sleep(self._backoff)
        finally:
            self._connecting.discard(node)
        self._pump()

    # ---- answers

    def _returned(self, node: int, *, first: bool) -> None:
        self._asked[node] -= 1
        if first:
            self._first.discard(node)

    def _answered(self, batches: list[Sent], answer: list[Written]) -> None:
        by_address = {written.at: written for written in answer}
        for sent in batches:
            written = by_address.get(sent.at)
            code, offset = (7, -1) if written is None else (written.code, written.offset)
            lane = self._lanes[sent.at]
            lane.flying.remove(sent)
            if code in (0, _DUPLICATE):
                lane.known = lane.begun = True
                self._settle(sent, offset)
            else:
                self._refused(lane, sent, code)
        if self._failure is None:
            self._pump()

    def _lost(self, node: int, batches: list[Sent], exc: BaseException) -> None:
        """Nobody knows whether these were written."""
        if self._failure is None:
            log.warning("node %d did not answer a produce request: %r", node, exc)
        for sent in batches:
            lane = self._lanes[sent.at]
            lane.flying.remove(sent)
            if isinstance(exc, errors.KafkaError) and not exc.retriable:
                self._break(lane, sent, exc)
            else:
                self._repeat(lane, sent)

    def _refused(self, lane: Lane, sent: Sent, code: int) -> None:
        error = errors.for_code(code)
        told = error(f"{sent.at[0]}[{sent.at[1]}]")
        if lane.broken is not None:
            self._settle(sent, lane.broken)
        elif error in FENCED_PRODUCER:
            self._fail(errors.ProducerFenced(f"{told!r}"))
        elif code == _OUT_OF_ORDER and not lane.again:
            self._fail(told)  # the broker has lost records
        elif code == _OUT_OF_ORDER or error.retriable:
            if code != _OUT_OF_ORDER:
                log.warning("%s[%d]: a batch was not written, sending it again: %s", *sent.at, error.__name__)
            self._repeat(lane, sent)
        else:
            self._break(lane, sent, told)

    def _repeat(self, lane: Lane, sent: Sent) -> None:
        if self._failure is not None:
            self._settle(sent, self._failure)
        elif lane.broken is not None:
            self._settle(sent, lane.broken)
        else:
            lane.again.append(sent)
            self._behind[sent.at] = lane
            self._mend()

    def _break(self, lane: Lane, sent: Sent, exc: Exception) -> None:
        """A batch was refused for good: the broker would not expect the numbers of the next ones."""
        lane.broken = exc
        self._behind.pop(sent.at, None)
        self._due.pop(sent.at, None)
        for one in (sent, *lane.again, *lane.waiting):
            self._settle(one, exc)
        lane.clear()
        self._broke(exc)

    def _broke(self, exc: Exception) -> None:
        """A batch was refused for good."""

    def _fail(self, exc: Exception) -> None:
        """Nothing can be sent any more."""
        if self._failure is None:
            self._failure = exc
        for sent in list(self._open):  # also the one whose answer says so, which no lane has any more
            self._settle(sent, self._failure)
        for lane in self._lanes.values():
            lane.clear()
        self._due, self._behind = {}, {}

    def _settle(self, sent: Sent, what: int | Exception) -> None:
        if sent not in self._open:
            return
        self._open.discard(sent)
        self.size_bytes -= sent.size
        if sent.written.done():
            pass  # cancelled, by who waited for it
        elif isinstance(what, int):
            sent.written.set_result(what)
        else:
            sent.written.set_exception(what)
            sent.written.exception()  # retrieved: see Sent
        room, self._room = self._room, None
        if room is not None:
            room.set_result(None)
        if not self._open and self._drained is not None:
            drained, self._drained = self._drained, None
            drained.set_result(None)
