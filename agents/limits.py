"""How long a worker may be unable to work. Imports nothing: the command line reads it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """How long a worker may be unable to work before it says why and stops. In seconds.

    Attributes:
        blocked: its event loop runs nothing, because one call does not return. Default 30: the heartbeats come from
            another thread, so the group would wait for ever; a batch of 10,000 records takes far less.
        stalled: it has partitions with records to read, and neither reads nor commits any. Default 120: two rebalances.
        silent: its group's coordinator answers nothing, or it is in no generation of the group. Default 90: more than
            a rebalance may take (60), and than a broker's election.
    """

    blocked: float = 30.0
    stalled: float = 120.0
    silent: float = 90.0
