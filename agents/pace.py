"""When a worker takes its next checkpoint: as often as its load allows."""

import math

LONGEST = 0.1
"""Seconds within which a record's outputs commit where the load allows it. At this and longer a transaction costs
nothing that could be measured in a backlog."""
LEISURE = 1.0
"""Seconds between checkpoints for which no output waits, under at-least-once: what comes twice after a crash."""
LONGEST_PAUSE = 2.0
"""Seconds between two checkpoints where they take long. A transaction may be open all that time, and is aborted at
10 s."""
MANY = 100
"""Records that are worth a checkpoint before `LONGEST` is over. It takes 2 ms of processor time: 20 us for each."""
BUSY, FREE = 0.2, 0.75
"""What part of the time checkpoints may take, during which no batch is processed: of a worker that has more to do than
it can, and, together with the batches, of one that has not."""
NEVER = math.inf


class Pace:
    """Says after each checkpoint when the next one is due: `least` seconds later, or as soon after that as `many`
    records have come, or `most` seconds later.

    An idle worker commits the first record that comes at once. Under a backlog a checkpoint takes a fifth of the time
    at most.

    Args:
        interval: seconds between checkpoints, where they are to be as far apart. Default None: see above.
    """

    def __init__(self, interval: float | None = None) -> None:
        self._fixed = interval
        self.least = self.most = LONGEST if interval is None else interval
        self.many: float = NEVER

    def taken(self, took: float, since: float, worked: float) -> None:
        """A checkpoint has been taken.

        Args:
            took: seconds that it took.
            since: seconds between the end of the one before and its beginning.
            worked: seconds of those in which batches were processed.
        """
        load = worked / (since + took) if since + took > 0 else 1.0
        share = max(BUSY, FREE - load)
        # One that waited for a broker is no measure: its successor's transaction would be open for longer than
        # brokers allow.
        least = min(LONGEST_PAUSE, took * (1 / share - 1))
        if self._fixed is None:
            self.least, self.most, self.many = least, max(LONGEST, least), MANY
        else:
            self.least = self.most = max(self._fixed, least)

    def idle(self) -> None:
        """There was nothing to commit."""
        if self._fixed is None:
            self.least, self.most, self.many = 0.0, LONGEST, 1
