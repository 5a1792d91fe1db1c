"""Candidate `penstock`: both workloads as groups of one pipeline, exactly-once unless $BENCH_DELIVERY says otherwise.

Run by `python -m penstock.deploy.worker benchmarks.penstock_pipeline GROUP`; names come from the environment.
"""

import os

from benchmarks.records import PARTITIONS, Delay, Departure, Result, has_departed, to_delay
from penstock.pipelines import FOREVER, Count, Delivery, Pipeline, Sum, Topic

run = os.environ.get("BENCH_RUN", "bench")

delivery = Delivery(os.environ.get("BENCH_DELIVERY", "exactly-once"))
pipeline = Pipeline(run)
source = Topic(os.environ.get("BENCH_SOURCE", "flights"), key=str, value=Departure, partitions=PARTITIONS)
delays = Topic(f"{run}-stateless", key=str, value=Delay, partitions=PARTITIONS, retention=FOREVER)
results = Topic(f"{run}-keyed", key=str, value=Result, partitions=PARTITIONS, retention=FOREVER)

pipeline.group("stateless", delivery=delivery).stream(source).filter(has_departed).map(to_delay).to(delays)
keyed = pipeline.group("keyed", delivery=delivery).stream(source)
keyed.aggregate("per-key", Result, n=Count(), total=Sum("distance")).to(results)
