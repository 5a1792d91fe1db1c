"""Candidate `faust`: stock Faust agents, at-least-once.

Run by `faust -A benchmarks.peers.faust_agents --loop uvloop worker -l warn --without-web`. Faust's own JSON codec; a
linger of 5 ms, which is a third cheaper than its default of none; no web server, no leader topic. There is no `join`:
nothing makes an agent's stream wait until a table that another agent fills has its rows.
"""

import os
from typing import Any

import faust

from benchmarks.records import PARTITIONS

app = faust.App(
    os.environ.get("BENCH_RUN", "bench"),
    broker=f"kafka://{os.environ.get('BENCH_BROKER', '127.0.0.1:9092')}",
    datadir=os.environ.get("BENCH_DATA", ".penstock/bench"),
    store="rocksdb://",
    key_serializer="raw",
    value_serializer="json",
    consumer_auto_offset_reset="earliest",
    producer_linger=0.005,
    topic_partitions=PARTITIONS,
    table_standby_replicas=0,
    topic_disable_leader=True,
    web_enabled=False,
)
source = app.topic(os.environ.get("BENCH_SOURCE", "flights"))
out = app.topic(os.environ.get("BENCH_OUT", "delays"))


def delay(flight: dict[str, Any]) -> dict[str, Any]:
    """The delay of a departed flight."""
    minutes = flight["dep_delay"]
    return {
        "id": flight["id"],
        "carrier": flight["carrier"],
        "route": f"{flight['origin']}-{flight['dest']}",
        "minutes": minutes,
        "late": minutes > 15,
    }


match os.environ.get("BENCH_PROGRAM", "stateless"):
    case "stateless":

        @app.agent(source)
        async def delays(stream: Any) -> None:
            """Departed flights as delays."""
            async for key, flight in stream.items():
                if flight["dep_delay"] is not None:
                    await out.send(key=key, value=delay(flight))

    case "keyed":
        table = app.Table("per-key", default=lambda: [0, 0], partitions=PARTITIONS)

        @app.agent(source)
        async def counts(stream: Any) -> None:
            """Count and sum per key."""
            async for key, flight in stream.items():
                name = key.decode()
                n, total = table[name]
                table[name] = n, total = [n + 1, total + flight["distance"]]
                await out.send(key=key, value={"n": n, "total": total})

    case "rekey":

        @app.agent(source)
        async def routes(stream: Any) -> None:
            """Departed flights under their routes, as delays."""
            departed = stream.filter(lambda flight: flight["dep_delay"] is not None)
            by_route = departed.group_by(
                lambda flight: f"{flight['origin']}-{flight['dest']}", name="by-route", partitions=PARTITIONS
            )
            async for key, flight in by_route.items():
                await out.send(key=key, value=delay(flight))
