"""aiokafka's fetcher, keeping each response's bytes for us to read instead of wrapping them for itself."""

from types import FunctionType
from typing import Any

from aiokafka.consumer import fetcher as stock
from aiokafka.consumer.fetcher import Fetcher

from penstock.agents.faust.client import SteadyClient
from penstock.agents.faust.coordinator import StableConsumer
from penstock.agents.faust.wire import WireRecords

IDLE = 1, 100
"""What a fetch asks for where the last one found nothing: (bytes, ms). Answered with the first record. Faust fixes the
time at 1.5 s; other requests queue behind a long poll on the same connection, so it is also what a rebalance or a
recovery waits for."""
FLOWING = 8192, 16
"""Where the last one found records: the broker gathers so many bytes, but never longer. At low rates requests cost, not
records: without it each record is a request of its own, 0.5 ms of processor time."""


class ColumnFetcher(Fetcher):  # type: ignore[misc]
    """A Fetcher whose buffers hold `WireRecords`, and whose requests are as large as the flow of records lets them be.

    The method that reads a response names aiokafka's class MemoryRecords, whose bytes cannot be reached from outside.
    Replacing the name in aiokafka's module would change every consumer of the process, copying the method would freeze
    130 lines of it here: so it is the same code with one name bound to another class.
    """

    async def _proc_fetch_request(self, assignment: Any, node_id: Any, request: Any) -> bool:
        found: bool = await self._read_response(assignment, node_id, request)
        self._fetch_min_bytes, self._fetch_max_wait_ms = FLOWING if found else IDLE
        return found

    _read_response = FunctionType(
        Fetcher._proc_fetch_request.__code__,
        {**vars(stock), "MemoryRecords": WireRecords},
        Fetcher._proc_fetch_request.__name__,
        Fetcher._proc_fetch_request.__defaults__,
        Fetcher._proc_fetch_request.__closure__,
    )


class ColumnConsumer(StableConsumer):
    """A StableConsumer whose fetcher is a ColumnFetcher, by the same way as its coordinator."""

    @property
    def _fetcher(self) -> Any:
        return self.__dict__.get("_fetcher")

    @_fetcher.setter
    def _fetcher(self, fetcher: Any) -> None:
        if type(fetcher) is Fetcher:
            fetcher.__class__ = ColumnFetcher
            self._client.__class__ = SteadyClient
        self.__dict__["_fetcher"] = fetcher
