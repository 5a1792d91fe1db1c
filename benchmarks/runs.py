"""What one run of a candidate gave."""

from collections.abc import Mapping
from dataclasses import dataclass

FIGURES = {
    "rate": ("records/s", ",.0f"),
    "cpu_us": ("CPU us a record", ".2f"),
    "cores": ("cores", ".2f"),
    "p50_ms": ("p50 ms", ".1f"),
    "p99_ms": ("p99 ms", ".1f"),
    "max_ms": ("longest ms", ".0f"),
    "sent": ("records/s sent", ",.0f"),
    "ns": ("ns a record", ".0f"),
    "seconds": ("seconds", ".2f"),
    "peak_mb": ("peak MB", ".0f"),
    "start": ("s to the first output", ".2f"),
}
"""Name -> its column's title and format. Only `rate` and `sent` are better when larger."""


@dataclass(frozen=True)
class Run:
    """One run's figures.

    Attributes:
        candidate: its name.
        records: how many it got.
        figures: by names of FIGURES.
        right: whether the output was what it must be.
        verdict: the same in words.
        load: the load average at its start.
        others: the share of the machine's processor time that went to none of candidate, broker and harness; None
            where the broker is not ours.
    """

    candidate: str
    records: int
    figures: Mapping[str, float]
    right: bool
    verdict: str = "right"
    load: float = 0.0
    others: float | None = None


class RunFailed(Exception):
    """A candidate's process ended by itself, or what it must do did not happen; the text says what was seen."""
