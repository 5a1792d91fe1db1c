"""Candidate `quix`: Quix Streams with its defaults, at-least-once: its JSON codec, a changelog."""

import os
from typing import Any

from quixstreams import Application, State


def delay(flight: dict[str, Any]) -> dict[str, Any]:
    """The delay of a departed flight."""
    minutes = flight["dep_delay"]
    return {
        "id": flight["id"],
        "carrier": flight["carrier"],
        "route": route(flight),
        "minutes": minutes,
        "late": minutes > 15,
    }


def route(flight: dict[str, Any]) -> str:
    """The new key."""
    return f"{flight['origin']}-{flight['dest']}"


def departed(flight: dict[str, Any]) -> bool:
    """Cancelled flights have no departure delay."""
    return flight["dep_delay"] is not None


def count(flight: dict[str, Any], state: State) -> dict[str, int]:
    """The aircraft's flights and miles so far."""
    n, total = state.get("n", 0) + 1, state.get("total", 0) + flight["distance"]
    state.set("n", n)
    state.set("total", total)
    return {"n": n, "total": total}


def with_aircraft(flight: dict[str, Any], aircraft: dict[str, Any]) -> dict[str, Any]:
    """The flight with its aircraft."""
    return {"id": flight["id"], "manufacturer": aircraft["manufacturer"], "seats": aircraft["seats"]}


def main(program: str) -> None:
    """Run until ended."""
    app = Application(
        broker_address=os.environ["BENCH_BROKER"],
        consumer_group=os.environ["BENCH_RUN"],
        auto_offset_reset="earliest",
        state_dir=os.environ["BENCH_DATA"],
        loglevel="WARNING",
    )
    flights = app.dataframe(app.topic(os.environ["BENCH_SOURCE"], key_deserializer="str", value_deserializer="json"))
    out = app.topic(os.environ["BENCH_OUT"], key_serializer="str", value_serializer="json")
    if program == "stateless":
        made = flights.filter(departed).apply(delay)
    elif program == "keyed":
        made = flights.apply(count, stateful=True)
    elif program == "rekey":
        by_route = flights.filter(departed).group_by(
            route, name="by-route", key_deserializer="str", key_serializer="str"
        )
        made = by_route.apply(delay)
    else:
        planes = app.dataframe(app.topic(os.environ["BENCH_TABLE"], key_deserializer="str", value_deserializer="json"))
        made = flights.join_asof(planes, how="inner", on_merge=with_aircraft)
    made.to_topic(out)
    app.run()


if __name__ == "__main__":
    main(os.environ["BENCH_PROGRAM"])
