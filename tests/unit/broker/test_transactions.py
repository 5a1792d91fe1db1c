"""Transactions on a clock of the test's, with their effects written down instead of done."""

from collections.abc import Callable
from pathlib import Path

import pytest

from penstock.deploy.broker.protocol import ErrorCode
from penstock.deploy.broker.transactions import Transactions
from penstock.deploy.broker.transactions.coordinator import LONGEST_TIMEOUT_MS, State
from tests.unit.broker.clock import Clock

TIMEOUT_MS = 60_000


class Written:
    """What the ends of transactions did, in order."""

    def __init__(self) -> None:
        self.done: list[tuple[object, ...]] = []
        self.fails = False

    def write_marker(self, topic: str, partition: int, producer_id: int, epoch: int, *, commit: bool) -> None:
        if self.fails:
            raise OSError("no space left on device")
        self.done.append((topic, partition, producer_id, epoch, commit))

    def end_offsets(self, group: str, producer_id: int, *, commit: bool) -> None:
        self.done.append((group, producer_id, commit))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def written() -> Written:
    return Written()


@pytest.fixture
def start(tmp_path: Path, written: Written, clock: Clock) -> Callable[[], Transactions]:
    """Transactions as they are after a start of the broker."""

    def start() -> Transactions:
        started = Transactions(tmp_path, written, clock)
        started.recover()
        return started

    return start


@pytest.fixture
def transactions(start: Callable[[], Transactions]) -> Transactions:
    return start()


def init(transactions: Transactions, name: str = "t") -> tuple[int, int]:
    error, producer_id, epoch = transactions.init(name, TIMEOUT_MS)
    assert error is ErrorCode.NONE
    return producer_id, epoch


def test_a_commit_reaches_every_partition_and_group(transactions: Transactions, written: Written) -> None:
    pid, epoch = init(transactions)
    transactions.add("t", partitions={("out", 1), ("out", 0)})
    transactions.add("t", group="g")
    assert transactions.has_group("t", "g")
    assert transactions.end("t", commit=True) is ErrorCode.NONE
    assert written.done == [("out", 0, pid, epoch, True), ("out", 1, pid, epoch, True), ("g", pid, True)]
    assert transactions.end("t", commit=True) is ErrorCode.NONE, "asked again by one that missed the answer"
    assert transactions.end("t", commit=False) is ErrorCode.INVALID_TXN_STATE
    assert len(written.done) == 3


def test_what_could_not_be_finished_is_tried_again(transactions: Transactions, written: Written) -> None:
    pid, epoch = init(transactions)
    transactions.add("t", partitions={("out", 0)})
    written.fails = True
    for _ in range(2):
        with pytest.raises(OSError, match="no space"):
            transactions.end("t", commit=True)
    written.fails = False
    transactions.tick()
    assert written.done == [("out", 0, pid, epoch, True)]
    assert transactions.end("t", commit=True) is ErrorCode.NONE


def test_nothing_to_end(transactions: Transactions) -> None:
    init(transactions)
    assert transactions.end("t", commit=True) is ErrorCode.INVALID_TXN_STATE


def test_who_may_write_where(transactions: Transactions) -> None:
    pid, epoch = init(transactions)
    verify = transactions.verify
    assert verify(pid, epoch, "out", 0) is ErrorCode.INVALID_TXN_STATE
    transactions.add("t", partitions={("out", 0)})
    assert verify(pid, epoch, "out", 0) is ErrorCode.NONE
    assert verify(pid, epoch, "out", 1) is ErrorCode.INVALID_TXN_STATE
    assert verify(pid + 1, epoch, "out", 0) is ErrorCode.INVALID_TXN_STATE
    transactions.end("t", commit=True)
    assert verify(pid, epoch, "out", 0) is ErrorCode.INVALID_TXN_STATE, "late records would never be ended"


def test_a_successor_aborts_and_fences(transactions: Transactions, written: Written) -> None:
    pid, epoch = init(transactions)
    transactions.add("t", partitions={("out", 0)})
    successor, later = init(transactions)
    assert successor == pid
    assert later > epoch
    assert written.done == [("out", 0, pid, epoch + 1, False)]
    assert transactions.check("t", pid, epoch) is ErrorCode.PRODUCER_FENCED
    assert transactions.check("t", pid, later) is ErrorCode.NONE
    assert transactions.check("t", pid + 7, later) is ErrorCode.INVALID_PRODUCER_ID_MAPPING
    assert transactions.verify(pid, epoch, "out", 0) is ErrorCode.INVALID_PRODUCER_EPOCH
    assert transactions.init("t", TIMEOUT_MS, pid, epoch - 1)[0] is ErrorCode.PRODUCER_FENCED


def test_one_that_takes_too_long_is_aborted(transactions: Transactions, written: Written, clock: Clock) -> None:
    pid, epoch = init(transactions)
    transactions.add("t", partitions={("out", 0)})
    clock.now += TIMEOUT_MS / 1000 - 1
    transactions.tick()
    assert written.done == []
    clock.now += 1
    transactions.tick()
    assert written.done == [("out", 0, pid, epoch + 1, False)]
    assert transactions.check("t", pid, epoch) is ErrorCode.PRODUCER_FENCED


def test_epochs_end_and_a_new_id_begins(transactions: Transactions) -> None:
    pid, epoch = init(transactions)
    while epoch < 32766:
        same, epoch = init(transactions)
        assert same == pid
    fresh, first = init(transactions)
    assert fresh != pid
    assert first == 0


def test_ids_are_given_out_once(start: Callable[[], Transactions]) -> None:
    ids: list[int] = []
    for _ in range(3):
        transactions = start()
        ids += [transactions.init(None, 0)[1] for _ in range(5)]
        transactions.close()
    assert len(set(ids)) == 15


def test_bad_requests(transactions: Transactions) -> None:
    assert transactions.init("", TIMEOUT_MS)[0] is ErrorCode.INVALID_REQUEST
    assert transactions.init("t", 0)[0] is ErrorCode.INVALID_TRANSACTION_TIMEOUT
    assert transactions.init("t", LONGEST_TIMEOUT_MS + 1)[0] is ErrorCode.INVALID_TRANSACTION_TIMEOUT


@pytest.mark.parametrize("commit", [True, False])
def test_what_was_prepared_is_finished_after_a_crash(
    start: Callable[[], Transactions], written: Written, commit: bool
) -> None:
    before = start()
    pid, epoch = init(before)
    before.add("t", partitions={("out", 0)}, group="g")
    written.fails = True
    with pytest.raises(OSError, match="no space"):
        before.end("t", commit=commit)
    before.close()
    written.fails = False
    after = start()
    assert written.done == [("out", 0, pid, epoch, commit), ("g", pid, commit)]
    known = after.get("t")
    assert known is not None
    assert known.state is (State.COMPLETE_COMMIT if commit else State.COMPLETE_ABORT)


def test_what_was_open_goes_on_after_a_crash(start: Callable[[], Transactions], written: Written, clock: Clock) -> None:
    before = start()
    pid, epoch = init(before)
    before.add("t", partitions={("out", 0)})
    before.close()
    after = start()
    assert after.verify(pid, epoch, "out", 0) is ErrorCode.NONE
    assert after.holds_open(pid, "out", 0)
    clock.now += TIMEOUT_MS
    after.tick()
    assert written.done == [("out", 0, pid, epoch + 1, False)]
