"""Acknowledge only what is on disk, for the fsync policy `always`."""

import asyncio
from collections.abc import Callable, Iterable

from penstock.deploy.broker.log import Journal, LogProblem, PartitionLog
from penstock.deploy.broker.protocol import Answer, ApiKey, Call, Handler, Result

CHANGES = frozenset(
    {
        ApiKey.PRODUCE,
        ApiKey.OFFSET_COMMIT,
        ApiKey.CREATE_TOPICS,
        ApiKey.DELETE_TOPICS,
        ApiKey.DELETE_RECORDS,
        ApiKey.INIT_PRODUCER_ID,
        ApiKey.ADD_PARTITIONS_TO_TXN,
        ApiKey.ADD_OFFSETS_TO_TXN,
        ApiKey.END_TXN,
        ApiKey.TXN_OFFSET_COMMIT,
        ApiKey.ALTER_CONFIGS,
        ApiKey.CREATE_PARTITIONS,
        ApiKey.DELETE_GROUPS,
        ApiKey.INCREMENTAL_ALTER_CONFIGS,
        ApiKey.OFFSET_DELETE,
    }
)
"""The requests whose answer promises that something is kept."""


class GroupCommit:
    """Holds answers back until what they promise is on disk.

    One round at a time, in a thread: an fdatasync for each log that was appended to. Answers that come up meanwhile
    wait for the next round, which serves all of them: under load, many acknowledgements share one fdatasync.
    """

    def __init__(self, journals: Callable[[], Iterable[Journal]]) -> None:
        self._journals = journals
        self._dirty: set[PartitionLog] = set()
        self._deleted: set[PartitionLog] = set()  # during a round
        self._held: list[tuple[asyncio.Future[Answer], Answer]] = []
        self._round: asyncio.Future[None] | None = None

    def touched(self, log: PartitionLog) -> None:
        """It was appended to."""
        self._dirty.add(log)

    def deleted(self, log: PartitionLog) -> None:
        """Its records are gone, and nothing is promised about them any more."""
        self._dirty.discard(log)
        if self._round is not None:
            self._deleted.add(log)

    def wrap(self, handler: Handler) -> Handler:
        """The handler, with its answers held."""

        def handle(call: Call) -> Result:
            result = handler(call)
            return self._hold(result) if isinstance(result, dict) else result

        return handle

    def _hold(self, answer: Answer) -> asyncio.Future[Answer]:
        held: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._held.append((held, answer))
        if self._round is None:
            self._begin()
        return held

    def _begin(self) -> None:
        held, self._held = self._held, []
        loop = asyncio.get_running_loop()
        try:
            for journal in self._journals():  # here, not in the thread: a journal may replace its file while it grows
                journal.sync()
        except LogProblem as problem:  # none of these answers may be given, and nobody may wait for them for ever
            for future, _ in held:
                if not future.done():
                    future.set_exception(problem)
            return
        dirty, self._dirty = self._dirty, set()
        self._round = loop.run_in_executor(None, self._flush, dirty)
        self._round.add_done_callback(lambda done: self._end(done, held))

    def _end(self, done: "asyncio.Future[None]", held: list[tuple["asyncio.Future[Answer]", Answer]]) -> None:
        self._round = None
        self._deleted.clear()
        error = done.exception()
        for future, answer in held:
            if future.done():
                continue
            if error is None:
                future.set_result(answer)
            else:
                future.set_exception(error)  # no acknowledgement: the connection ends, and the client tries again
        if self._held:
            self._begin()

    def _flush(self, logs: set[PartitionLog]) -> None:
        for log in logs:
            try:
                log.flush()
            except LogProblem:
                if log not in self._deleted:
                    raise
