"""A worker's part in its group: a consumer in a thread of its own that joins, beats and knows what is committed, and
reads nothing. A long step in the event loop does not cost the worker its place."""

from collections.abc import Collection
from typing import Any

from aiokafka import TopicPartition, errors
from aiokafka.consumer.fetcher import Fetcher
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread

from penstock.agents.faust.coordinator import StableConsumer
from penstock.agents.kafka.client import SteadyClient


class MemberConsumer(StableConsumer):
    """A StableConsumer that never fetches: `PartitionReader` does.

    `AIOKafkaConsumer.start` makes the fetcher, whose task begins with the first assignment. So the assignment inside
    `start` is intercepted, as StableConsumer does, and the task is taken away before it ran.
    """

    @property
    def _fetcher(self) -> Any:
        return self.__dict__.get("_fetcher")

    @_fetcher.setter
    def _fetcher(self, fetcher: Any) -> None:
        if type(fetcher) is Fetcher:
            fetcher._fetch_task.cancel()
            fetcher._fetch_task = self._loop.create_future()  # what `close` cancels and waits for
            self._client.__class__ = SteadyClient
        self.__dict__["_fetcher"] = fetcher


class MemberThread(AIOKafkaConsumerThread):
    """Faust's consumer thread, for the membership alone. The public methods are called from the app's loop."""

    def _create_worker_consumer(self, transport: Any) -> Any:
        """Make Faust's consumer with its settings, then give it ours; nothing is read from them before it starts.

        Faust names the class AIOKafkaConsumer in the middle of 60 lines of settings, so the instance changes its class
        instead: MemberConsumer adds no state.
        """
        consumer = super()._create_worker_consumer(transport)
        consumer.__class__ = MemberConsumer
        consumer.leaves = lambda: self.consumer.app.gives_place_up
        return consumer

    @property
    def coordinator(self) -> Any:
        """aiokafka's group coordinator; None before the thread has started."""
        return None if self._consumer is None else self._consumer._coordinator

    def rejoin(self) -> None:
        """Join the group again, under the same member id. Nothing more where that is under way."""
        if (coordinator := self.coordinator) is not None:
            self.thread_loop.call_soon_threadsafe(coordinator.request_rejoin)

    @property
    def subscriptions(self) -> Any:
        """What the group gave this member: aiokafka's SubscriptionState."""
        return self._ensure_consumer()._subscription

    def assigned(self) -> Any:
        """The assignment at hand, which knows when it has ended; None where there is none."""
        subscription = self.subscriptions.subscription
        return None if subscription is None else subscription.assignment

    async def committed(self, tps: Collection[Any]) -> dict[TopicPartition, int]:
        """The group's committed offsets; partitions without one are left out.

        One request for all of them, where Faust sends one each. It waits for undecided transactions of the group, see
        StableCoordinator.

        Raises:
            IllegalStateError: The assignment changed meanwhile; the positions do not matter any more.
        """
        found: dict[TopicPartition, int] = await self.call_thread(self._committed, [TopicPartition(*tp) for tp in tps])
        return found

    async def _committed(self, tps: list[TopicPartition]) -> dict[TopicPartition, int]:
        assignment = self.assigned()
        if assignment is None or not tps:
            return {}
        committed = await self.coordinator.fetch_committed_offsets(tps)
        if not assignment.active:
            raise errors.IllegalStateError("The assignment changed while its committed offsets were fetched")
        return {tp: found.offset for tp, found in committed.items()}
