"""Steps that keep state, all or nothing for a record: what it did is taken back where it failed half-way."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from penstock.agents.batch import RecordBatch
from penstock.agents.block import Block
from penstock.agents.failing.errors import RecordError, of_system
from penstock.agents.failing.failures import Explain
from penstock.agents.failing.policies import FAIL, final
from penstock.agents.operators import Operator
from penstock.tables.partition import TablePartition

GROWTH = 4
"""A piece that went well is followed by one so many times as long."""


class AtomicOperator(Operator):
    """A step that under a policy which goes on takes a block as a whole, as ever, and where that fails takes it back
    and goes on in pieces: what is before the failed record, that record alone, and then pieces that grow.

    Nothing that others see happens before a piece went well: `forward` and `later` hold it back. So no step behind it
    gets anything of a try that failed, and a failure of theirs is not taken for one of this step.
    """

    _held: list[Callable[[], None]] | None = None

    def copied(self, row: Any) -> Any:
        """A row of its tables that later changes do not reach. Default: the row itself, of steps that replace rows."""
        return row

    # ---- what others see

    def forward(self, block: Block) -> None:
        """See `Operator.forward`."""
        if self._held is None:
            super().forward(block)
        elif block.values:
            self._held.append(partial(super().forward, block))

    def later(self, effect: Callable[..., Any], *given: Any) -> None:
        """Do something that others see: at once, or behind a try that goes well."""
        if self._held is None:
            effect(*given)
        else:
            self._held.append(partial(effect, *given))

    def failed(self, block: Block, at: int, exc: Exception, explain: Explain) -> None:
        """See `Surviving.failed`. Within a try: of a row that the failure of its own does not undo."""
        if self._held is None or final(self.policy) is FAIL or of_system(exc):
            super().failed(block, at, exc, explain)
        else:
            self._held.append(partial(super().failed, block, at, exc, explain))

    # ---- pieces

    def in_pieces(self, block: Block, parts: Sequence[TablePartition], work: Callable[[Block], None]) -> None:
        """Take a block, or what of it goes well.

        Args:
            block: records that go in one after the other.
            parts: the table partitions that change.
            work: takes a part of the block; raises RecordError where a record fails.
        """
        self.pieces(
            parts,
            lambda begin, end: work(block.between(begin, end)),
            len(block),
            block.offset,
            lambda at: (block, at),
        )

    def pieces(
        self,
        parts: Sequence[TablePartition],
        work: Callable[[int, int], None],
        count: int,
        offset: Callable[[int], int],
        place: Callable[[int], tuple[Block, int]],
        left_out: Callable[[int], None] = lambda at: None,
    ) -> None:
        """As `in_pieces`, of so many records, whatever they lie in.

        Args:
            parts: the table partitions that change.
            work: takes the records from one position to before another.
            count: of the records.
            offset: gives the source offset of the record at a position.
            place: gives its block and its position there.
            left_out: follows where the record at a position has failed, and is not to stop the worker.
        """
        _Pieces(self, parts, work, place, left_out).run(count, offset)

    def tried(self, parts: Sequence[TablePartition], work: Callable[[], None]) -> bool:
        """Do something that may fail, and then has not happened. Whether it went well."""
        block = Block(RecordBatch("", 0, 0, 0, [None], [None], [0], [0]), [None])
        pieces = _Pieces(self, parts, lambda begin, end: work(), lambda at: (block, 0), lambda at: None)
        return pieces.tried(0, 1) is None


class _Pieces:
    """The records of a block, or of several, on their way through a step.

    Args:
        step: whose policy it is.
        parts: the table partitions that change.
        work, place, left_out: see `AtomicOperator.pieces`.
    """

    def __init__(
        self,
        step: AtomicOperator,
        parts: Sequence[TablePartition],
        work: Callable[[int, int], None],
        place: Callable[[int], tuple[Block, int]],
        left_out: Callable[[int], None],
    ) -> None:
        self._step, self._parts, self._work, self._place, self._left_out = step, parts, work, place, left_out

    def run(self, count: int, offset: Callable[[int], int]) -> None:
        """See `AtomicOperator.pieces`."""
        at, size, following = 0, count, 0
        while at < count:
            end = min(at + size, count)
            failed = self.tried(at, end)
            if failed is None:
                at = end
                size, following = following or size * GROWTH, 0
                continue
            if (cause := failed.__cause__) is not None and of_system(cause):
                raise failed
            if end - at > 1:
                far = next((i for i in range(at, end) if offset(i) == failed.offset), (at + end) // 2)
                size, following = max(far - at, 1), 1
                continue
            self._alone(at, failed)
            at, size, following = end, 1, 0

    def tried(self, begin: int, end: int) -> RecordError | None:
        """Take some records; why that failed, and then nothing happened."""
        step, parts = self._step, self._parts
        for part in parts:
            part.begin(step.copied)
        step._held = held = list[Callable[[], None]]()
        try:
            self._work(begin, end)
            for part in parts:
                self._encodable(part, begin, end)
        except RecordError as failed:
            for part in parts:
                part.undo()
            return failed
        finally:
            step._held = None
        for part in parts:
            part.keep()
        for effect in held:
            effect()
        return None

    def _encodable(self, part: TablePartition, begin: int, end: int) -> None:
        """Rows are encoded at the checkpoint, where no record is known any more: one that cannot be shows here."""
        try:
            part.encodable()
        except Exception as exc:
            block, at = self._place((begin + end) // 2)
            reason = f"the row that table {part.spec.name!r} would have does not encode: {type(exc).__name__}: {exc}"
            advice = f"Its rows are {part.spec.row.name}: give them what they are declared to be"
            raise self._step.error(block, at, reason, advice) from exc

    def _alone(self, at: int, failed: RecordError) -> None:
        """One record failed: again, where that is the policy, or what the policy says."""
        step = self._step
        for _ in step.failures.waits(step.policy):
            again = self.tried(at, at + 1)
            if again is None:
                return
            failed, again = again, None  # of one that was tried again nothing is left: see Surviving.retried
            if failed.__cause__ is not None and of_system(failed.__cause__):
                raise failed
        if final(step.policy) is FAIL:
            raise failed
        block, row = self._place(at)
        step.failures.take(step.where, step.policy, block, row, failed, _itself)
        del failed
        self._left_out(at)


def _itself(block: Block, at: int, exc: Exception) -> RecordError:
    """What failed says so already."""
    assert isinstance(exc, RecordError)
    return exc
