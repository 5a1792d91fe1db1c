"""A coordinator that gives the same answer for ever: how long it is asked, and what is said meanwhile."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from aiokafka import errors

from penstock.agents.kafka.writing import asking
from penstock.agents.kafka.writing.asking import Asking
from penstock.agents.kafka.writing.transactional import TransactionalProducer

CONCURRENT, LOADING = 51, 14


class Coordinator:
    """The boundary that the producer stands on: a client whose only broker says what it is told to."""

    def __init__(self, code: Callable[[], int]) -> None:
        self.code, self.requests = code, 0

    async def coordinator_lookup(self, kind: Any, key: str) -> int:
        return 0

    async def ready(self, node: int, group: Any = None) -> bool:
        return True

    def connected(self, node: int, group: Any = None) -> "Coordinator":
        return self

    def send(self, request: Any) -> "asyncio.Future[Any]":
        self.requests += 1
        answer = asyncio.get_running_loop().create_future()
        answer.set_result([("t[0]", self.code())])
        return answer

    async def close(self) -> None:
        pass


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(main, 90))


def begun(coordinator: Coordinator, max_block_ms: int) -> TransactionalProducer:
    producer = TransactionalProducer(["fake:1"], "id", max_block_ms=max_block_ms, retry_backoff_ms=1)
    producer._client, producer._id, producer._epoch = coordinator, 1, 0
    producer.begin_transaction()
    return producer


@pytest.mark.parametrize(
    ("code", "why"),
    [(CONCURRENT, "the transaction before has not ended yet"), (LOADING, r"t\[0\]: GroupLoadInProgressError")],
)
def test_what_is_refused_for_ever_is_an_error(code: int, why: str) -> None:
    async def main() -> None:
        coordinator = Coordinator(lambda: code)
        producer = begun(coordinator, 200)
        with pytest.raises(errors.KafkaTimeoutError, match=f"id: AddPartitionsToTxn: not within 0.2 s, .*{why}"):
            await producer.enlist([("t", 0)])
        assert coordinator.requests > 1
        with pytest.raises(errors.KafkaTimeoutError):
            await producer.abort_transaction()
        await producer.stop()

    run(main())


def test_what_is_granted_in_time_is_not_spoken_of(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        answers = iter([CONCURRENT, LOADING, CONCURRENT, 0])
        producer = begun(Coordinator(lambda: next(answers)), 60_000)
        with caplog.at_level(logging.DEBUG):
            await producer.enlist([("t", 0)])
        assert caplog.records == []
        assert next(answers, None) is None
        producer._begun = False  # nothing is to be ended
        await producer.stop()

    run(main())


def test_a_long_wait_is_told_seldom(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """At once where something is wrong, after ten seconds where it is usual, and then every ten."""
    now = 100.0
    monkeypatch.setattr(asking.time, "monotonic", lambda: now)
    failed: list[Exception] = []
    wrong, usual = Asking("id: this", 60.0, failed.append), Asking("id: that", 60.0, failed.append)
    for second in range(600):
        now = 100.0 + second / 10
        wrong.again("no answer")
        usual.again("not yet", usual=True)
    told = [record.getMessage() for record in caplog.records]
    assert [line for line in told if "this" in line] == [
        f"id: this: asking again, after {seconds} s: no answer" for seconds in range(0, 60, 10)
    ]
    assert [line for line in told if "that" in line] == [
        f"id: that: asking again, after {seconds} s: not yet" for seconds in range(10, 60, 10)
    ]
    assert failed == []
    now = 160.0
    with pytest.raises(errors.KafkaTimeoutError, match="id: this: not within 60 s, and at last: no answer"):
        wrong.again("no answer")
    assert [str(error) for error in failed] == ["KafkaTimeoutError: id: this: not within 60 s, and at last: no answer"]
