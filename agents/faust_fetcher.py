"""aiokafka's fetcher, keeping each response's bytes for us to read instead of wrapping them for itself."""

from types import FunctionType
from typing import Any

from aiokafka.consumer import fetcher as stock
from aiokafka.consumer.fetcher import Fetcher

from penstock.agents.faust_client import SteadyClient
from penstock.agents.faust_coordinator import StableConsumer
from penstock.agents.faust_wire import WireRecords


class ColumnFetcher(Fetcher):  # type: ignore[misc]
    """A Fetcher whose buffers hold `WireRecords`.

    The method that reads a response names aiokafka's class MemoryRecords, whose bytes cannot be reached from outside.
    Replacing the name in aiokafka's module would change every consumer of the process, copying the method would freeze
    130 lines of it here: so it is the same code with one name bound to another class.
    """

    _proc_fetch_request = FunctionType(
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
