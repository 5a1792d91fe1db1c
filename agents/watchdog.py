"""A watch over the event loop: a thread that ends a process whose loop a function blocks, and says which and where."""

import faulthandler
import os
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from operator import length_hint
from types import FrameType

from penstock.agents.batch import RecordBatch, named
from penstock.agents.block import Block
from penstock.agents.exits import HUNG
from penstock.agents.operators import Operator
from penstock.tables.checkpoint import Partition

TICK_SECONDS = 0.5
"""Between two looks."""


class LoopWatch:
    """A thread that counts on `beat` being called from the event loop.

    Time is counted in its own ticks, so that a process that was stopped and goes on is not taken for a blocked one.

    Args:
        name: of the worker, for the message.
        seconds: without a beat, after which the process ends.
        working: the batches in flight.
        end: ends the process with a text.
    """

    def __init__(
        self,
        name: str,
        seconds: float,
        working: Callable[[], Mapping[Partition, RecordBatch]],
        end: Callable[[str], None] | None = None,
    ) -> None:
        self._name, self._seconds, self._working, self._end = name, seconds, working, end or _end
        self._beats = 0
        self._stop = threading.Event()
        self._watched = threading.get_ident()
        self._thread = threading.Thread(target=self._run, name="penstock-watchdog", daemon=True)

    def start(self) -> None:
        """Begin to watch the calling thread."""
        self._watched = threading.get_ident()
        self._arm()
        self._thread.start()

    def stop(self) -> None:
        """Watch no more."""
        self._stop.set()
        faulthandler.cancel_dump_traceback_later()

    def beat(self) -> None:
        """The event loop runs."""
        self._beats += 1

    def _run(self) -> None:
        seen, ticks = -1, 0
        while not self._stop.wait(TICK_SECONDS):
            self._arm()
            beats = self._beats
            seen, ticks = beats, (ticks + 1 if beats == seen else 0)
            if ticks * TICK_SECONDS >= self._seconds:
                frame = sys._current_frames().get(self._watched)
                self._end(self._text(frame))
                return

    def _arm(self) -> None:
        """Where a call keeps the interpreter's lock (a regular expression can), not even this thread runs. Then
        faulthandler's, which needs no lock, writes all stacks and ends the process."""
        if sys.__stderr__ is not None:  # Faust's own command puts a logger in the place of sys.stderr
            seconds = 2 * self._seconds + 10 * TICK_SECONDS
            faulthandler.dump_traceback_later(seconds, exit=True, file=sys.__stderr__)

    def _text(self, frame: FrameType | None) -> str:
        stack = "".join(traceback.format_stack(frame)) if frame is not None else "(no stack)"
        at = (frame and _step(frame)) or self._batches() or "outside of any batch"
        return (
            f"{self._name} stopped: its event loop has been blocked for {self._seconds:g} s, in {at}. Nothing since "
            "the last checkpoint was committed. Make the function return sooner, do less at a time, or raise "
            f"$PENSTOCK_BLOCKED_SECONDS. It stands here:\n{stack}"
        )

    def _batches(self) -> str:
        return named(list(self._working().values()))


def _step(frame: FrameType | None) -> str | None:
    """The innermost step on a stack, with the record it is at where its iterator tells."""
    while frame is not None:
        operator, block, left = (frame.f_locals.get(name) for name in ("self", "block", "left"))
        if isinstance(operator, Operator) and isinstance(block, Block):
            batch = block.batch
            row = len(block.values) - length_hint(left) - 1 if left is not None else -1
            if 0 <= row < len(block):
                return f"{batch.topic}[{block.partition(row)}]@{block.offset(row)}: {operator.where}"
            return f"{named(batch.parts)}: {operator.where}"
        frame = frame.f_back
    return None


def _end(text: str) -> None:
    out = sys.__stderr__ or sys.stderr
    out.write(text)
    out.flush()
    os._exit(HUNG)
