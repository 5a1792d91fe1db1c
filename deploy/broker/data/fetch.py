"""Fetch: bytes out of logs, at once or when there are enough of them.

No fetch sessions (KIP-227): every answer has session id 0, which all clients take as "ask for everything each time".
"""

import asyncio
from typing import Any

from penstock.deploy.broker.log import LogProblem
from penstock.deploy.broker.protocol import Answer, ApiKey, Call, ErrorCode, Handler
from penstock.deploy.broker.topics import Partition, Topics

_COMMITTED = 1  # isolation level


class FetchRequests:
    """Fetch."""

    def __init__(self, topics: Topics) -> None:
        self._topics = topics

    def handlers(self) -> dict[int, Handler]:
        return {ApiKey.FETCH: self.fetch}

    def fetch(self, call: Call) -> Answer | asyncio.Future[Answer]:
        found = self.read(call.body)
        wait = call.body.max_wait.total_seconds()
        if found.enough or wait <= 0:
            return found.answer
        return _LongPoll(self, call.body, found, wait).future

    def read(self, body: Any) -> "_Found":
        """What is there now."""
        left = body.max_bytes
        size = 0
        failed = False
        committed = body.isolation_level == _COMMITTED
        responses = []
        for topic in body.topics:
            answers = []
            for one in topic.partitions:
                partition = self._topics.partition(topic.topic, one.partition)
                if partition is None:
                    answers.append(_failure(one.partition, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION))
                    failed = True
                    continue
                answer = _read(partition, one, min(left, one.partition_max_bytes), size == 0, committed)
                got = len(answer["records"])
                size += got
                left -= got
                failed = failed or answer["error_code"] != ErrorCode.NONE
                answers.append(answer)
            responses.append({"topic": topic.topic, "partitions": answers})
        answer = {"error_code": ErrorCode.NONE, "session_id": 0, "responses": responses}
        return _Found(answer, size, failed or size >= body.min_bytes)

    def partitions(self, body: Any) -> list[Partition]:
        """Those of the request that are there."""
        asked = [(topic.topic, one.partition) for topic in body.topics for one in topic.partitions]
        found = [self._topics.partition(name, index) for name, index in asked]
        return [partition for partition in found if partition is not None]


class _Found:
    """An answer, its size in bytes of records, and whether it need not wait for more."""

    __slots__ = ("answer", "enough", "size")

    def __init__(self, answer: Answer, size: int, enough: bool) -> None:
        self.answer, self.size, self.enough = answer, size, enough


class _LongPoll:
    """A fetch that waits: for its minimum of bytes, for one of its partitions to go, or for its time to be over.

    Bytes are counted as they arrive, and the logs read again when they might be enough. They are not where they belong
    to an open transaction and the fetch is of committed records: then it goes on waiting.
    """

    def __init__(self, requests: FetchRequests, body: Any, found: _Found, wait: float) -> None:
        loop = asyncio.get_running_loop()
        self.future: asyncio.Future[Answer] = loop.create_future()
        self._loop = loop
        self._requests = requests
        self._body = body
        self._missing = body.min_bytes - found.size
        self._looking = False
        self._partitions = requests.partitions(body)
        for partition in self._partitions:
            partition.wait(self._arrived)
        self._timer = loop.call_later(wait, self._answer)
        self.future.add_done_callback(self._over)

    def _arrived(self, size: int) -> None:
        self._missing -= size
        if self._missing <= 0 and not self._looking:
            self._looking = True
            self._loop.call_soon(self._look)  # after the appends of the same produce request

    def _look(self) -> None:
        self._looking = False
        if self.future.done():
            return
        found = self._requests.read(self._body)
        if found.enough:
            self.future.set_result(found.answer)
        self._missing = self._body.min_bytes - found.size

    def _answer(self) -> None:
        if not self.future.done():
            self.future.set_result(self._requests.read(self._body).answer)

    def _over(self, _: "asyncio.Future[Answer]") -> None:
        """Answered, or its connection is gone."""
        self._timer.cancel()
        for partition in self._partitions:
            partition.wait_no_more(self._arrived)


def _read(partition: Partition, one: Any, limit: int, first: bool, committed: bool) -> Answer:
    """One partition's part: up to `limit` bytes, or one batch, however large, where it is the first of the answer."""
    log = partition.log
    if log.offline:
        return _failure(one.partition, ErrorCode.KAFKA_STORAGE_ERROR)
    offset: int = one.fetch_offset
    start, end = log.start_offset, log.end_offset
    code: int = ErrorCode.NONE
    records = b""
    aborted: tuple[tuple[int, int], ...] = ()
    stable = log.last_stable_offset
    if not start <= offset <= end:
        code = ErrorCode.OFFSET_OUT_OF_RANGE
    elif offset < (stable if committed else end) and (limit > 0 or first):
        try:
            read = log.read(offset, max(limit, 1), committed=committed)
        except LogProblem as problem:
            code = problem.error_code
        else:
            records, aborted, end, stable = read.records, read.aborted, read.high_watermark, read.last_stable_offset
    return {
        "partition_index": one.partition,
        "error_code": code,
        "high_watermark": end,
        "last_stable_offset": stable,
        "log_start_offset": start,
        "aborted_transactions": [{"producer_id": pid, "first_offset": at} for pid, at in aborted]
        if committed
        else None,
        "preferred_read_replica": -1,
        "records": records,
    }


def _failure(index: int, code: int) -> Answer:
    return {"partition_index": index, "error_code": code, "high_watermark": -1, "records": b""}
