"""Rows of tables for which a function fails: under a policy that goes on they count as none, where they fail.

A table that is made from others is so a function of them: what was made of the row before goes, and the next change of
the row is one of a row that was not there. Which is why what a row was before fails in silence: it was told of when it
was new.
"""

from collections.abc import Callable, Sequence
from typing import Any

from penstock.agents.block import Block
from penstock.agents.event_time.results import Derived
from penstock.agents.failing.errors import of_system
from penstock.agents.failing.failures import Explain
from penstock.agents.operators import Operator


def each_or_none(
    operator: Operator, block: Block, fn: Callable[..., Any], columns: Sequence[Sequence[Any]], explain: Explain
) -> list[Any]:
    """`fn` of the rows of some columns; None for one that fails, which takes the operator's policy.

    Args:
        operator: the step.
        block: the rows, as dead letters of them are to be.
        fn: what is done. It is called again for those before one that failed.
        columns: what it takes.
        explain: makes the error of a row.
    """
    try:
        return [fn(*row) for row in zip(*columns, strict=True)]
    except Exception:
        return [_one(operator, block, at, fn, row, explain) for at, row in enumerate(zip(*columns, strict=True))]


def _one(
    operator: Operator, block: Block, at: int, fn: Callable[..., Any], row: tuple[Any, ...], explain: Explain
) -> Any:
    try:
        try:
            return fn(*row)
        except Exception as exc:
            return operator.retried(fn, row, exc)
    except Exception as why:
        operator.failed(block, at, why, explain)
        return None


def before_or_none(fn: Callable[..., Any], columns: Sequence[Sequence[Any]]) -> list[Any]:
    """`fn` of what rows were; None for one at which it fails."""
    try:
        return [fn(*row) for row in zip(*columns, strict=True)]
    except Exception:
        return [_quietly(fn, row) for row in zip(*columns, strict=True)]


def _quietly(fn: Callable[..., Any], row: tuple[Any, ...]) -> Any:
    try:
        return fn(*row)
    except Exception as exc:
        if of_system(exc):
            raise
        return None


def shown(block: Block, values: list[Any]) -> Block:
    """Rows whose records only Penstock reads, with what they say: for dead letters that a human reads."""
    batch, count = block.batch, len(block)
    offsets = [block.offset(at) for at in range(count)]
    keys, stamps = block.raw_keys(), block.timestamps()
    return Block(Derived(batch.topic, batch.partition, batch.start, batch.next, keys, values, stamps, offsets), values)
