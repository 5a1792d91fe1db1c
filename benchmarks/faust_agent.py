"""Candidate `faust`: the workload `stateless` as a stock Faust agent, at-least-once.

Run by `faust -A benchmarks.faust_agent --loop uvloop worker -l warn --without-web`. Faust's own JSON codec; a linger of
5 ms, which is a third cheaper than its default of none; no web server, no leader topic.
"""

import os
from typing import Any

import faust

app = faust.App(
    os.environ.get("BENCH_RUN", "bench"),
    broker=f"kafka://{os.environ.get('BENCH_BROKER', '127.0.0.1:9092')}",
    datadir=os.environ.get("BENCH_DATA", ".penstock/bench"),
    key_serializer="raw",
    value_serializer="json",
    consumer_auto_offset_reset="earliest",
    producer_linger=0.005,
    topic_disable_leader=True,
    web_enabled=False,
)
source = app.topic(os.environ.get("BENCH_SOURCE", "flights"))
out = app.topic(os.environ.get("BENCH_OUT", "delays"))


@app.agent(source)
async def delays(stream: Any) -> None:
    """Departed flights as delays."""
    async for key, flight in stream.items():
        minutes = flight["dep_delay"]
        if minutes is not None:
            value = {
                "id": flight["id"],
                "carrier": flight["carrier"],
                "route": f"{flight['origin']}-{flight['dest']}",
                "minutes": minutes,
                "late": minutes > 15,
            }
            await out.send(key=key, value=value)
