"""The same clients for code without an event loop: theirs runs in a thread of its own, heartbeats included."""

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Generic, Literal, Self, TypeVar

from penstock.agents.block import Record
from penstock.agents.security import PLAINTEXT, Security
from penstock.agents.topics import Topic
from penstock.deploy.clients.consumer import AT_ONCE, Consumer, Offsets
from penstock.deploy.clients.producer import BATCH_BYTES, Acks, Delivery, DeliveryFailed, Producer

K = TypeVar("K")
V = TypeVar("V")
T = TypeVar("T")


class LoopThread:
    """An event loop in a thread. A context manager; the loop is closed behind it."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="penstock-client", daemon=True)

    def __enter__(self) -> "LoopThread":
        self._thread.start()
        return self

    def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine there and wait for what it returns. What interrupts the wait cancels it."""
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def __exit__(self, *exc: object) -> None:
        self.call(self._loop.shutdown_asyncgens())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class _InThread:
    """An asynchronous client, opened and closed in a loop's thread of its own."""

    def __init__(self, client: AbstractAsyncContextManager[Any]) -> None:
        self._client, self._thread = client, LoopThread()

    def __enter__(self) -> Self:
        self._thread.__enter__()
        try:
            self._thread.call(_entered(self._client))
        except BaseException:
            self._thread.__exit__()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        try:
            self._thread.call(_left(self._client))
        finally:
            self._thread.__exit__()


async def _entered(client: AbstractAsyncContextManager[Any]) -> None:
    await client.__aenter__()


async def _left(client: AbstractAsyncContextManager[Any]) -> None:
    await client.__aexit__(None, None, None)


class SyncProducer(_InThread):
    """`Producer` without async: a context manager for any thread. See there for the arguments."""

    def __init__(
        self,
        broker: str,
        *,
        acks: Acks = "all",
        batch_bytes: int = BATCH_BYTES,
        security: Security = PLAINTEXT,
    ) -> None:
        self._producer = Producer(broker, acks=acks, batch_bytes=batch_bytes, security=security)
        super().__init__(self._producer)

    def send(
        self,
        topic: Topic[K, V],
        value: V | None,
        *,
        key: K | None = None,
        timestamp: int | None = None,
        headers: Sequence[tuple[str, bytes | None]] = (),
        on_delivery: Callable[[Delivery], object] | None = None,
        on_error: Callable[[DeliveryFailed], object] | None = None,
    ) -> concurrent.futures.Future[Delivery]:
        """Hand over one record, see `Producer.send`. The callbacks run in the client's thread: keep them short."""
        told: concurrent.futures.Future[Delivery] = concurrent.futures.Future()

        async def hand_over() -> None:
            sent = await self._producer.send(
                topic,
                value,
                key=key,
                timestamp=timestamp,
                headers=headers,
                on_delivery=on_delivery,
                on_error=on_error,
            )
            sent.add_done_callback(lambda done: _copy(done, told))

        self._thread.call(hand_over())
        return told

    def send_all(self, topic: Topic[K, V], records: Iterable[tuple[K | None, V | None, int]]) -> Iterator[int]:
        """Send (key, value, timestamp in ms) records in whole batches, see `Producer.send_all`."""
        counts = self._producer.send_all(topic, records)

        async def count() -> int | None:
            return await anext(counts, None)

        while (sent := self._thread.call(count())) is not None:
            yield sent

    def flush(self) -> None:
        """Wait until everything sent is acknowledged or refused."""
        self._thread.call(self._producer.flush())


class SyncConsumer(_InThread, Generic[K, V]):
    """`Consumer` without async: a context manager and an iterator of `Record`. See there for the arguments."""

    def __init__(
        self,
        broker: str,
        *topics: Topic[K, V],
        group: str | None = None,
        start: Literal["earliest", "latest"] | Offsets = "earliest",
        until_end: bool = False,
        read_uncommitted: bool = False,
        security: Security = PLAINTEXT,
    ) -> None:
        self._consumer: Consumer[K, V] = Consumer(
            broker,
            *topics,
            group=group,
            start=start,
            until_end=until_end,
            read_uncommitted=read_uncommitted,
            security=security,
        )
        super().__init__(self._consumer)

    def __iter__(self) -> "SyncConsumer[K, V]":
        return self

    def __next__(self) -> Record:
        """The next record.

        Raises:
            RecordError: it cannot be decoded. It counts as read: the iteration may go on behind it.
        """

        async def following() -> Record | None:
            return await anext(self._consumer, None)

        record = self._thread.call(following())
        if record is None:
            raise StopIteration
        return record

    def take(self, timeout: float | None = None, most: int = AT_ONCE) -> list[Record]:
        """The records that are there, once there are some, see `Consumer.take`: quicker than one at a time."""
        return self._thread.call(self._consumer.take(timeout, most))

    def commit(self) -> None:
        """Keep that every record returned so far is done with, see `Consumer.commit`."""
        self._thread.call(self._consumer.commit())


def _copy(done: asyncio.Future[Delivery], told: concurrent.futures.Future[Delivery]) -> None:
    if done.cancelled():
        told.cancel()
    elif (exc := done.exception()) is not None:
        told.set_exception(exc)
    else:
        told.set_result(done.result())
