"""Batches of flights as Parquet files, exactly once though files know no transactions.

A batch begins where the partition's progress stands. A file of that partition which begins there or later was written
by a worker that died before it could commit, and is replaced.
"""

import os
from pathlib import Path

import msgspec

from examples.flights.models import Flight
from penstock.pipelines import AgentBatch


def folder() -> Path:
    """Where the files go: $FLIGHTS_ARCHIVE, else .penstock/archive."""
    return Path(os.environ.get("FLIGHTS_ARCHIVE", ".penstock/archive"))


def write_parquet(batch: AgentBatch[str, Flight]) -> Path:
    """Write a batch as one file, PARTITION-START.parquet; whole or not at all."""
    import polars

    target = folder()
    target.mkdir(parents=True, exist_ok=True)
    for old in target.glob(f"{batch.partition:04d}-*.parquet"):
        if int(old.stem.partition("-")[2]) >= batch.start:
            old.unlink()
    path = target / f"{batch.partition:04d}-{batch.start:012d}.parquet"
    part = path.with_suffix(".part")
    polars.DataFrame([msgspec.structs.asdict(flight) for flight in batch.values]).write_parquet(part)
    part.rename(path)
    return path
