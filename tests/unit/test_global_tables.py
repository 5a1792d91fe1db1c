"""Global tables: every row at hand whatever the partition, looked up by any key."""

from collections.abc import Callable

import msgspec
import pytest

from penstock.pipelines import (
    FOREVER,
    AgentStream,
    GlobalTable,
    Group,
    Pipeline,
    RecordError,
    Topic,
    TopologyDriver,
    TopologyError,
    check,
)
from penstock.pipelines.describing import describe, mermaid, text

Make = Callable[..., TopologyDriver]


class Flight(msgspec.Struct, frozen=True):
    carrier: str | None
    n: int


flights = Topic("flights", key=str, value=Flight, partitions=2)
carriers = Topic("carriers", key=str, value=str, partitions=5, compacted=True)
out = Topic("out", key=str, value=str)


def carrier(flight: Flight) -> str | None:
    return flight.carrier


def named(flight: Flight, name: str | None) -> str:
    return f"{flight.n}:{name}"


@pytest.fixture
def group() -> Group:
    return Pipeline("p").group("g")


@pytest.mark.parametrize("batch", [1, 1000])
@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("restart", [None, "crash", "rebalance"])
def test_join_by_a_key_of_the_value(
    restart: str | None, left: bool, batch: int, group: Group, topology_driver: Make
) -> None:
    """No co-partitioning: partition counts differ, and the stream's keys are others, or none."""
    table = group.global_table("carriers", carriers)
    stream = group.stream(flights)
    (stream.left_join_global if left else stream.join_global)(table, carrier, named).to(out)
    driver = topology_driver(group.pipeline, batch=batch)
    for round_ in range(2):
        driver.send_all(carriers, ((f"c{n}", f"name{n}.{round_}") for n in range(10)))
        driver.send_raw(carriers, None, key=f"c{round_}")
        for n in range(12):
            driver.send(flights, Flight(f"c{n}" if n % 5 else None, n), key=f"k{n}" if n % 2 else None)
        driver.process()
        if restart:
            getattr(driver, restart)("g")
    wanted = []
    for round_ in range(2):
        rows = {n: f"name{n}.{round_}" for n in range(10) if n != round_}
        found = {n: rows.get(n) if n % 5 else None for n in range(12)}
        wanted += [f"{n}:{name}" for n, name in found.items() if left or name is not None]
    assert sorted(driver.values(out)) == sorted(wanted)
    assert driver.table(table) == {f"c{n}": f"name{n}.1" for n in range(10) if n != 1}
    assert set(driver.broker.topics) == {"flights", "carriers", "out"}


def test_a_row_is_found_wherever_its_producer_put_it(group: Group, topology_driver: Make) -> None:
    table = group.global_table("carriers", carriers)
    group.stream(flights).join_global(table, carrier, named).to(out)
    driver = topology_driver(group.pipeline)
    for n in range(5):
        driver.send(carriers, f"name{n}", key="c", partition=n)
        driver.send(carriers, f"other{n}", key=f"c{n}", partition=(n * 3) % 5)
    driver.send_all(flights, [(None, Flight(f"c{n}", n)) for n in range(5)])
    assert driver.values(out) == [f"{n}:other{n}" for n in range(5)]


def test_bodies_read_it(group: Group, topology_driver: Make) -> None:
    table: GlobalTable[str, str] = group.global_table("carriers", carriers)
    told: list[object] = []

    @group.agent(flights)
    async def body(stream: AgentStream[str, Flight]) -> None:
        async for flight in stream:
            told.append((table.get(flight.carrier or ""), "c1" in table, list(table.scan(prefix="c1"))))
            with pytest.raises(KeyError):
                table["nobody"]
            assert not hasattr(table, "__setitem__")
            assert len(list(table.items())) == 20

    driver = topology_driver(group.pipeline)
    driver.send_all(carriers, ((f"c{n}", str(n)) for n in range(20)))
    driver.send(flights, Flight("c3", 1), key="k")
    driver.process()
    assert told == [("3", True, [("c1", "1"), *((f"c{n}", str(n)) for n in range(10, 20))])]


def test_bad_records_and_bad_keys_stop_the_group(group: Group, topology_driver: Make) -> None:
    table = group.global_table("carriers", carriers)
    group.stream(flights).join_global(table, lambda flight: 7, named).to(out)  # type: ignore[arg-type,return-value]
    driver = topology_driver(group.pipeline)
    driver.send_all(flights, [("k", Flight("c", 1))])
    with pytest.raises(RecordError, match=r"flights\[\d\]@0: .*the key 7 is not one of table 'carriers'"):
        driver.process()
    driver = topology_driver(group.pipeline)
    driver.send_raw(carriers, b"\xff", key="c", partition=3)
    with pytest.raises(RecordError, match=r"carriers\[3\]@0: p.g: global_table 'carriers': the value does not decode"):
        driver.process()
    driver = topology_driver(group.pipeline)
    driver.send(carriers, "x")
    with pytest.raises(RecordError, match="the record has no key"):
        driver.process()


def test_what_check_says(group: Group) -> None:
    plain = group.global_table("plain", Topic("plain", key=str, value=str))
    group.global_table("kept", Topic("kept", key=str, value=str, retention=FOREVER))
    keyed = group.table("keyed", carriers)
    stream = group.stream(flights)
    stream.join(plain, named)  # type: ignore[arg-type]
    stream.left_join_global(keyed, carrier, named)  # type: ignore[arg-type]

    def number(flight: Flight) -> int:
        return flight.n

    stream.join_global(plain, number, named)  # type: ignore[arg-type]
    elsewhere = group.pipeline.group("other").stream(flights)
    elsewhere.join_global(plain, carrier, named)
    found = [f"{problem.rule}: {problem.what}; {problem.advice}" for problem in check(group.pipeline.topology)]
    assert found == [
        "table: global table 'plain' follows topic 'plain', which the broker deletes records of: a new worker would "
        "lack rows that others have; declare the topic with compacted=True, or with retention=FOREVER",
        "table: table 'plain' is a global one; use join_global(TABLE, KEY, FN)",
        "table: table 'keyed' is not a global one; use left_join(TABLE, FN)",
        "type: number gives int, and the table's keys are str; make the table's key from the value",
        "group: it joins table 'plain' of another group; declare the table in this group, from its topic",
    ]


def test_a_name_is_taken_once(group: Group, topology_driver: Make) -> None:
    group.global_table("carriers", carriers)
    group.table("carriers", carriers)
    with pytest.raises(TopologyError, match="a second table is named 'carriers'"):
        topology_driver(group.pipeline)


def test_it_is_described(group: Group) -> None:
    before = describe(group.pipeline.topology)
    table = group.global_table("carriers", carriers)
    group.stream(flights).join_global(table, carrier, named).to(out)
    described = describe(group.pipeline.topology)
    assert described.fingerprint() != before.fingerprint()
    told = text(described)
    assert "global table carriers: str -> str, changelog carriers" in told
    assert "1. join_global with 'carriers' (carrier, named)" in told
    assert '"kind": "global"' in described.json()
    assert "t_carriers --> d_p_2e_g_carriers" in mermaid(described)
