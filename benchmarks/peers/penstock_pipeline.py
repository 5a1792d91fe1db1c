"""Candidate `penstock`: each program as a group of one pipeline, exactly-once unless $BENCH_DELIVERY says otherwise.

Run by `python -m penstock.deploy.worker benchmarks.peers.penstock_pipeline PROGRAM`.
"""

import os
from datetime import timedelta
from typing import Any

from benchmarks.records import (
    DAY_MS,
    GAP_MS,
    NEAR_MS,
    PARTITIONS,
    Aircraft,
    Delay,
    Departure,
    Pair,
    Result,
    Seats,
    has_departed,
    is_even,
    is_odd,
    paired,
    route,
    to_delay,
    with_aircraft,
)
from penstock.pipelines import (
    FOREVER,
    Count,
    DeadLetter,
    Delivery,
    Fail,
    JoinWindow,
    Pipeline,
    Session,
    Skip,
    Sum,
    Topic,
    Tumbling,
    Windowed,
    nullable,
)

name = os.environ.get("BENCH_OUT", "bench-out")
delivery = Delivery(os.environ.get("BENCH_DELIVERY", "exactly-once"))
errors = {"": Fail(), "skip": Skip(), "dead-letter": DeadLetter()}[os.environ.get("BENCH_ERRORS", "")]
pipeline = Pipeline(os.environ.get("BENCH_RUN", "bench"))
source = Topic(os.environ.get("BENCH_SOURCE", "flights"), key=str, value=Departure, partitions=PARTITIONS)


def out(value: Any) -> Topic[str, Any]:
    """The output topic; one program runs at a time."""
    return Topic(name, key=str, value=value, partitions=PARTITIONS, retention=FOREVER)


def is_result(result: Result | None) -> bool:
    """A session that went into another one is None."""
    return result is not None


program = os.environ.get("BENCH_PROGRAM", "stateless")
match program:
    case "stateless":
        stateless = pipeline.group("stateless", delivery=delivery, errors=errors).stream(source)
        stateless.filter(has_departed).map(to_delay).to(out(Delay))
    case "keyed":
        keyed = pipeline.group("keyed", delivery=delivery).stream(source)
        keyed.aggregate("per-key", Result, n=Count(), total=Sum("distance")).to(out(Result))
    case "rekey":
        rekey = pipeline.group("rekey", delivery=delivery).stream(source)
        rekey.filter(has_departed).group_by("by-route", route).map(to_delay).to(out(Delay))
    case "tumbling" | "session":
        days, nights = Tumbling(timedelta(milliseconds=DAY_MS)), Session(timedelta(milliseconds=GAP_MS))
        windows = pipeline.group(program, delivery=delivery).stream(source)
        updates = windows.window(days if program == "tumbling" else nights).aggregate(
            "per-window", Result, n=Count(), total=Sum("distance")
        )
        updates = updates if program == "tumbling" else updates.filter(is_result)
        updates.to(Topic(name, key=Windowed[str], value=nullable(Result), partitions=PARTITIONS, retention=FOREVER))
    case "stream-join":
        near = timedelta(milliseconds=NEAR_MS)
        both = pipeline.group("stream-join", delivery=delivery).stream(source)
        pairs = both.filter(is_even).join(both.filter(is_odd), paired, within=JoinWindow(near, near), name="pairs")
        pairs.to(out(Pair))
    case "join":
        planes = Topic(os.environ.get("BENCH_TABLE", "planes"), key=str, value=Aircraft, partitions=PARTITIONS)
        group = pipeline.group("join", delivery=delivery)
        aircraft = group.table("aircraft", planes)
        group.stream(source).join(aircraft, with_aircraft).to(out(Seats))
