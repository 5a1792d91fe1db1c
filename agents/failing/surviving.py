"""Going on behind records that failed: what every step has of the policies."""

from collections.abc import Callable, Sequence
from operator import length_hint
from typing import Any, NoReturn, TypeVar

from penstock.agents.block import Block
from penstock.agents.failing.errors import RecordError, of_system
from penstock.agents.failing.failures import Explain, Failures
from penstock.agents.failing.policies import FAIL, Policy, Retry, final

T = TypeVar("T")


class Surviving:
    """Where the policy is another than to fail, a step leaves the rows out that failed and goes on: it works on what
    `kept`, `survivors` and `without` give it. Each function is called once for each row either way, but for retries.

    Args:
        where: the step, as `GROUP: step`.
        failures: takes rows that failed.
    """

    policy: Policy = FAIL

    def __init__(self, where: str, failures: Failures) -> None:
        self.where, self.failures = where, failures

    def each(self, fn: Callable[[Any], Any], block: Block) -> list[Any]:
        """`fn` of every value. A failure names its record: the iterator knows how far it came, so this is free."""
        left = iter(block.values)
        try:
            return [fn(value) for value in left]
        except Exception as exc:
            self.fail(block, len(block) - length_hint(left) - 1, exc, self.raised)

    def kept(self, fn: Callable[[Any], Any], block: Block) -> tuple[Block, list[Any]]:
        """`fn` of every value, and the rows for which it gave one: all of them unless the policy lets it go on."""
        if self.policy is FAIL:
            return block, self.each(fn, block)
        return self.survivors(block, fn, (block.values,), self.raised)

    def survivors(
        self,
        block: Block,
        fn: Callable[..., Any],
        columns: Sequence[Sequence[Any]],
        explain: Explain,
        *,
        again: bool = False,
    ) -> tuple[Block, list[Any]]:
        """`fn` of the rows of some columns, which may fail for some. What it gave is kept as it goes, so that no row
        is given to it twice, but by a policy to retry: where `explain` is `raised`, or with `again`."""
        out: list[Any] = []
        bad: list[int] = []
        count, iterators = len(block), [iter(column) for column in columns]
        left = iterators[0]
        while len(out) + len(bad) < count:
            try:
                out.extend(map(fn, *iterators))
                if len(out) + len(bad) < count:  # map() takes a function's StopIteration for the end
                    raise StopIteration
            except Exception as exc:
                at = count - length_hint(left) - 1
                why = exc
                if isinstance(self.policy, Retry) and (again or explain == self.raised):
                    try:
                        out.append(self.retried(fn, [column[at] for column in columns], exc))
                        continue
                    except Exception as last:
                        why = last
                self.failed(block, at, why, explain)
                bad.append(at)
                del why  # it refers to this call, and so to the batch: a worker seldom collects such garbage
        return self.without(block, bad), out

    def retried(self, fn: Callable[..., T], given: Sequence[Any], why: Exception) -> T:
        """What a function gives that failed, when it is called again as often as the policy says. A failure of the
        system ends that, unwaited.

        Raises:
            Exception: why it failed the last time; `why` where there is no other.
        """
        waits = self.failures.waits(self.policy)
        try:
            while not of_system(why) and next(waits, False):
                try:
                    return fn(*given)
                except Exception as again:
                    why = again
            raise why
        finally:
            del why  # which refers to this call, and so to the batch: a worker seldom collects such garbage

    def failed(self, block: Block, at: int, exc: Exception, explain: Explain) -> None:
        """A row failed: it takes the policy. Raises RecordError where that is to fail, and for a failure of the system,
        which no policy covers."""
        if final(self.policy) is FAIL or of_system(exc):
            self.fail(block, at, exc, explain)
        self.failures.take(self.where, self.policy, block, at, exc, explain)

    def fail(self, block: Block, at: int, exc: Exception, explain: Explain) -> NoReturn:
        """Raise the RecordError of a row. Of a failure of the system it says where that was met, and no advice."""
        if isinstance(exc, RecordError):
            raise exc
        if of_system(exc):
            raise self.error(block, at, f"{type(exc).__name__}: {exc}") from exc
        raise explain(block, at, exc) from exc

    def without(self, block: Block, bad: Sequence[int]) -> Block:
        """The rows but those at some positions."""
        if not bad:
            return block
        mask = [True] * len(block)
        for at in bad:
            mask[at] = False
        return block.where(mask)

    def refused(self, block: Block, bad: Sequence[int], reason: str, advice: str) -> Block:
        """The rows but those at some positions, which have a fault that no function raised."""

        def explain(block: Block, at: int, exc: Exception) -> RecordError:
            return self.error(block, at, reason, advice)

        for at in bad:
            if final(self.policy) is FAIL:
                raise self.error(block, at, reason, advice)
            self.failures.take(self.where, self.policy, block, at, ValueError(reason), explain)
        return self.without(block, bad)

    def raised(self, block: Block, position: int, exc: Exception) -> RecordError:
        """The user's function raised at a row."""
        return self.error(
            block, position, f"{type(exc).__name__}: {exc}", "Fix the function or filter such records out"
        )

    def error(self, block: Block, position: int, reason: str, advice: str = "") -> RecordError:
        """A RecordError at a row."""
        place = block.batch.topic, block.partition(position), block.offset(position)
        return RecordError(*place, self.where, reason, advice)
