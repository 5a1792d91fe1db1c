"""`penstock produce` and `penstock consume` on every broker."""

import asyncio
import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from aiokafka import AIOKafkaProducer

from tests.broker.brokers import EMBEDDED, ZOOKEEPER, Server
from tests.broker.cli import answer, invoked, lines, penstock
from tests.broker.running import LIMIT, PENSTOCK, ROOT, until

START = 1_357_000_000_000
"""2013-01-01T00:26:40Z"""

MODULE = """
import datetime
import msgspec
from penstock.pipelines import Pipeline, Topic, Count, msgpack

class Flight(msgspec.Struct):
    carrier: str
    number: int
    delay: float | None = None
    departed: datetime.datetime | None = None

def carrier(flight: Flight) -> str:
    return flight.carrier

class Total(msgspec.Struct):
    flights: int

pipeline = Pipeline("{prefix}")
flights = Topic("{prefix}-flights", key=str, value=Flight)
packed = Topic("{prefix}-packed", key=int, value=msgpack(Flight))
totals = Topic("{prefix}-totals", key=str, value=Total)
group = pipeline.group("g")
group.stream(flights).group_by("by-carrier", carrier).aggregate("total", Total, flights=Count()).to(totals)
pipeline.group("h").stream(flights).to(Topic("{prefix}-copies", key=str, value=Flight))
pipeline.group("p").stream(packed).to(Topic("{prefix}-packed-copies", key=int, value=Flight))
"""


@pytest.fixture
def topic(server: Server, topic_prefix: str) -> str:
    """A topic with two partitions."""
    name = f"{topic_prefix}-flights"
    config = "retention.ms=-1"  # the records are of 2013
    penstock(server.bootstrap, "topics", "create", name, "--partitions", "2", "--config", config)
    answer(server.bootstrap, "topics", "describe", name)  # its leaders are at work: what they refuse of acks=0 is lost
    return name


@pytest.fixture
def typed(topic_prefix: str, tmp_path: Path) -> str:
    """A pipeline's module that knows the topic."""
    path = tmp_path / f"pipeline_{topic_prefix}.py"
    path.write_text(MODULE.format(prefix=topic_prefix))
    return str(path)


def test_lines_with_keys(server: Server, topic: str) -> None:
    told = penstock(server.bootstrap, "produce", topic, "--key-separator", ":", stdin="a:1\nb:2:2\na:3")
    assert told.stdout.startswith(f"{topic}: 3 delivered, 0 failed (partition ")
    found = lines(server.bootstrap, topic, "--from-beginning")
    assert sorted((r["key"], r["value"]) for r in found) == [("a", "1"), ("a", "3"), ("b", "2:2")]
    assert {r["topic"] for r in found} == {topic}
    text = penstock(server.bootstrap, "consume", topic, "--from-beginning", "--until-end", "--keys").stdout
    assert sorted(text.splitlines()) == ["a\t1", "a\t3", "b\t2:2"]
    wrong = penstock(server.bootstrap, "produce", topic, "--key-separator", ":", stdin="a:1\nb\n", code=1)
    assert wrong.stderr == "line 2: not delivered: no ':' in it\n"
    assert "1 delivered, 1 failed" in wrong.stdout


async def _write(broker: str, topic: str, rows: list[tuple[int, Any]]) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=broker)
    await producer.start()
    try:
        for n, value in rows:
            await producer.send_and_wait(
                topic, value, key=b"k%d" % n, partition=0, timestamp_ms=START + n, headers=[("n", b"%d" % n)]
            )
    finally:
        await producer.stop()


@pytest.fixture
def numbered(server: Server, topic: str) -> str:
    """Ten records a millisecond apart, in partition 0."""
    asyncio.run(_write(server.bootstrap, topic, [(n, b"v%d" % n) for n in range(10)]))
    return topic


@pytest.mark.parametrize(
    ("where", "first"),
    [
        (("--from-beginning",), 0),
        (("--from-offset", "7"), 7),
        (("--from-offset", "0:4"), 4),
        (("--from-offset", "1:0", "--from-offset", "0:8"), 8),
        (("--from-time", "2013-01-01T00:26:40.003Z"), 3),
        (("--from-time", "2013-01-01T00:26:40.004+00:00", "--partition", "0"), 4),
        (("--from-beginning", "--partition", "1"), 10),
        ((), 10),
    ],
)
def test_where_to_begin(server: Server, numbered: str, where: tuple[str, ...], first: int) -> None:
    assert [r["offset"] for r in lines(server.bootstrap, numbered, *where)] == list(range(first, 10))


def test_how_much_to_show(server: Server, numbered: str) -> None:
    everything = ("--keys", "--headers", "--timestamps", "--from-beginning", "--max", "2")
    text = penstock(server.bootstrap, "consume", numbered, *everything).stdout
    assert text.splitlines() == ["2013-01-01T00:26:40.000Z\tn=0\tk0\tv0", "2013-01-01T00:26:40.001Z\tn=1\tk1\tv1"]
    [record] = lines(server.bootstrap, numbered, "--from-offset", "0:9")
    assert record == {
        "topic": numbered,
        "partition": 0,
        "offset": 9,
        "timestamp": START + 9,
        "key": "k9",
        "value": "v9",
        "headers": [["n", "9"]],
    }


def test_offsets_that_are_not_there(server: Server, numbered: str) -> None:
    result = penstock(server.bootstrap, "consume", numbered, "--from-offset", "0:99", "--until-end")
    assert result.stderr == f"{numbered}[0] has offsets 0 to 10: reading from 10\n"
    assert result.stdout == ""
    wrong = penstock(server.bootstrap, "consume", numbered, "--partition", "7", code=1)
    assert wrong.stderr == f"error: topic {numbered!r} has partitions 0 to 1, not 7\n"
    penstock(server.bootstrap, "consume", numbered, "--from-offset", "x", code=2)
    penstock(server.bootstrap, "consume", numbered, "--from-offset", "1", "--from-beginning", code=2)
    penstock(server.bootstrap, "consume", numbered, "--from-offset", "1", "--group", "g", code=2)


def test_a_group_goes_on_where_it_was(server: Server, numbered: str, topic_prefix: str) -> None:
    command = ("consume", numbered, "--group", topic_prefix, "--from-beginning")
    assert penstock(server.bootstrap, *command, "--max", "3").stdout == "v0\nv1\nv2\n"
    assert answer(server.bootstrap, "groups", "describe", topic_prefix)["lag"] == 7
    assert penstock(server.bootstrap, *command, "--until-end").stdout == "".join(f"v{n}\n" for n in range(3, 10))
    assert penstock(server.bootstrap, *command, "--until-end").stdout == ""


async def _transactions(broker: str, topic: str) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=broker, transactional_id=topic)
    await producer.start()
    try:
        async with producer.transaction():
            await producer.send(topic, b"committed", partition=0)
        await producer.begin_transaction()
        await producer.send_and_wait(topic, b"aborted", partition=0)
        await producer.abort_transaction()
    finally:
        await producer.stop()


def test_aborted_records_are_shown_on_request(server: Server, topic: str) -> None:
    asyncio.run(_transactions(server.bootstrap, topic))
    command = ("consume", topic, "--from-beginning", "--until-end")
    assert penstock(server.bootstrap, *command).stdout == "committed\n"
    assert penstock(server.bootstrap, *command, "--read-uncommitted").stdout == "committed\naborted\n"


def test_bytes_that_are_no_text(server: Server, topic: str) -> None:
    asyncio.run(_write(server.bootstrap, topic, [(1, b"\xff\x00"), (2, None), (3, "é".encode())]))
    assert [r["value"] for r in lines(server.bootstrap, topic, "--from-beginning")] == [{"base64": "/wA="}, None, "é"]
    text = penstock(server.bootstrap, "consume", topic, "--from-beginning", "--until-end").stdout
    assert text == "\\xff\0\nnull\né\n"


def test_jsonl_with_fields(server: Server, topic: str) -> None:
    rows = '{"id": "a", "at": "2013-01-01T00:26:40Z"}\n\n{"id": 7, "at": 1357000000001}\n{"id": "c"}\nnonsense\n'
    command = ("produce", topic, "--format", "jsonl", "--key-field", "id", "--timestamp-field", "at")
    result = penstock(server.bootstrap, *command, stdin=rows, code=1)
    assert result.stderr.splitlines()[0] == "line 4: not delivered: no field 'at'; it has id"
    assert result.stderr.splitlines()[1].startswith("line 5: not delivered: JSON is malformed")
    found = lines(server.bootstrap, topic, "--from-beginning")
    assert sorted((r["key"], r["timestamp"]) for r in found) == [("7", START + 1), ("a", START)]
    assert '{"id": 7, "at": 1357000000001}' in [r["value"] for r in found], "as it was"
    summary = answer(server.bootstrap, *command, stdin=rows, code=1)
    assert (summary["delivered"], summary["failed"], sum(summary["partitions"].values())) == (2, 2, 2)
    assert [error["line"] for error in summary["errors"]] == [4, 5]


def test_csv_takes_its_types_from_the_topic(server: Server, topic: str, typed: str, tmp_path: Path) -> None:
    file = tmp_path / "flights.csv"
    file.write_text('carrier,number,delay,departed\nUA,1,2.5,2013-01-01T05:15:00\n"A,A",2,,\n', encoding="utf-8-sig")
    penstock(server.bootstrap, "produce", topic, str(file), "--key-field", "carrier", "--as", typed)
    found = {r["key"]: json.loads(r["value"]) for r in lines(server.bootstrap, topic, "--from-beginning")}
    assert found == {
        "UA": {"carrier": "UA", "number": 1, "delay": 2.5, "departed": "2013-01-01T05:15:00"},
        "A,A": {"carrier": "A,A", "number": 2, "delay": None, "departed": None},
    }
    untyped = penstock(server.bootstrap, "produce", topic, str(file), "--key-field", "number")
    assert "2 delivered" in untyped.stdout
    assert '{"carrier":"UA","number":"1","delay":"2.5","departed":"2013-01-01T05:15:00"}' in [
        r["value"] for r in lines(server.bootstrap, topic, "--from-beginning")
    ]
    file.write_text("carrier,number\nUA,1,2\n")
    short = penstock(server.bootstrap, "produce", topic, str(file), code=1)
    assert short.stderr == "line 2: not delivered: 3 cells, the header has 2\n"


def test_parquet(server: Server, topic: str, typed: str, tmp_path: Path) -> None:
    file = tmp_path / "flights.parquet"
    frame = pl.DataFrame({"carrier": ["UA", "AA"], "number": [1, 2], "delay": [0.5, None]})
    frame.with_columns(departed=pl.datetime(2013, 1, 1, 5)).write_parquet(file)
    command = ("produce", topic, str(file), "--key-field", "carrier", "--timestamp-field", "departed")
    penstock(server.bootstrap, *command, "--as", typed)
    found = lines(server.bootstrap, topic, "--from-beginning", "--as", typed)
    assert {r["key"]: r["value"]["delay"] for r in found} == {"AA": None, "UA": 0.5}
    assert {r["timestamp"] for r in found} == {1_357_016_400_000}
    (tmp_path / "broken.parquet").write_bytes(b"no")
    refused = penstock(server.bootstrap, "produce", topic, str(tmp_path / "broken.parquet"), code=1)
    assert refused.stderr.startswith("error: not a Parquet file: ")


def test_nothing_is_sent_where_a_value_is_wrong(server: Server, topic: str, typed: str) -> None:
    rows = '{"carrier": "UA", "number": 1}\n{"carrier": "UA"}\n{"carrier": 3, "number": 4}\n'
    refused = penstock(server.bootstrap, "produce", topic, "--format", "jsonl", "--as", typed, stdin=rows, code=1)
    assert refused.stderr.splitlines() == [
        "error: nothing is sent, 2 of 3 records are wrong:",
        "  line 2: Object missing required field `number`",
        "  line 3: Expected `str`, got `int` - at `$.carrier`",
    ]
    assert lines(server.bootstrap, topic, "--from-beginning") == []
    unknown = penstock(server.bootstrap, "topics", "create", f"{topic}-other")
    assert unknown.exit_code == 0
    missing = penstock(server.bootstrap, "produce", f"{topic}-other", "--as", typed, stdin="x", code=1)
    assert f"has no topic '{topic}-other'; it has " in missing.stderr


def test_records_of_a_module_and_those_that_are_not(server: Server, topic: str, typed: str) -> None:
    rows = [(0, b'{"carrier":"UA","number":1}'), (1, b"nonsense"), (2, None), (3, b'{"carrier":"AA","number":2}')]
    asyncio.run(_write(server.bootstrap, topic, rows))
    result = penstock(server.bootstrap, "consume", topic, "--from-beginning", "--until-end", "--as", typed, code=1)
    values = result.stdout.splitlines()
    assert json.loads(values[0]) == {"carrier": "UA", "number": 1, "delay": None, "departed": None}
    assert values[1:3] == ["nonsense", "null"]
    told = result.stderr.splitlines()
    assert told[0].startswith(f"undecodable: {topic}[0]@1: value is not json:Flight: JSON is malformed")
    assert told[1] == f"undecodable: {topic}[0]@2: value is not json:Flight: null"
    found = lines(server.bootstrap, topic, "--from-beginning", "--as", typed, code=1)
    assert [r["offset"] for r in found if "error" in r] == [1, 2]
    assert found[3]["value"]["number"] == 2


def test_other_codecs(server: Server, topic_prefix: str, typed: str) -> None:
    packed = f"{topic_prefix}-packed"
    penstock(server.bootstrap, "topics", "create", packed)
    rows = '{"id": "5", "carrier": "UA", "number": 1}\n'
    command = ("produce", packed, "--format", "jsonl", "--key-field", "number", "--as", typed)
    penstock(server.bootstrap, *command, stdin=rows)
    [record] = lines(server.bootstrap, packed, "--from-beginning", "--as", typed)
    assert (record["key"], record["value"]["carrier"]) == (1, "UA")
    text = penstock(server.bootstrap, "consume", packed, "--from-beginning", "--until-end", "--keys", "--as", typed)
    assert text.stdout.startswith('1\t{"carrier": "UA"')


def test_what_the_broker_would_refuse(server: Server, topic: str) -> None:
    penstock(server.bootstrap, "topics", "alter", topic, "--config", "max.message.bytes=2000")
    rows = "\n".join(["small", "x" * 3000, *("y" * 500 for _ in range(100))])
    result = penstock(server.bootstrap, "produce", topic, stdin=rows, code=1)
    assert result.stderr == "line 2: not delivered: 3,120 bytes are more than the topic's max.message.bytes, 2,000\n"
    assert result.stdout.startswith(f"{topic}: 101 delivered, 1 failed (partition 0: ")
    penstock(server.bootstrap, "topics", "alter", topic, "--config", "cleanup.policy=compact")
    keyless = penstock(server.bootstrap, "produce", topic, stdin="x\n", code=1)
    assert keyless.stderr == "line 1: not delivered: the topic is compacted, so a record needs a key\n"


def test_a_refusal_by_the_broker_is_told(server: Server, topic: str) -> None:
    name = {ZOOKEEPER: "message.timestamp.difference.max.ms"}.get(server.kind, "message.timestamp.after.max.ms")
    config = ("topics", "alter", topic, "--config", f"{name}=1000")
    if server.kind == EMBEDDED:  # it takes any timestamp, and says so
        assert (
            f"{name} is always 9223372036854775807 on this broker" in penstock(server.bootstrap, *config, code=1).stderr
        )
        return
    penstock(server.bootstrap, *config)
    row = '{"id": "a", "at": 9000000000000}\n'
    command = ("produce", topic, "--format", "jsonl", "--key-field", "id", "--timestamp-field", "at")

    async def refused() -> Any:  # the partition's log hears of its new config a moment later
        told = json.loads(invoked(server.bootstrap, *command, "--json", stdin=row).stdout)
        return told if told["failed"] else None

    summary = asyncio.run(until(refused, "the broker refuses it"))
    assert (summary["delivered"], summary["failed"]) == (0, 1)
    [error] = summary["errors"]
    assert error["line"] == 1
    assert error["partition"] in (0, 1)


@pytest.mark.parametrize("acks", ["0", "1", "all"])
def test_acks(server: Server, topic: str, acks: str) -> None:
    result = penstock(server.bootstrap, "produce", topic, "--acks", acks, stdin="a\nb\n")
    assert result.stdout.startswith(f"{topic}: 2 {'sent, unacknowledged' if acks == '0' else 'delivered'}, 0 failed")

    async def there() -> bool:  # nobody said when
        found = await asyncio.to_thread(lines, server.bootstrap, topic, "--from-beginning")
        return sorted(r["value"] for r in found) == ["a", "b"]

    asyncio.run(until(there, "both records are there"))


def _consuming(broker: str, topic: str) -> subprocess.Popen[bytes]:
    command = (*PENSTOCK, "consume", topic, "--from-beginning", "--broker", broker)
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=dict(os.environ))


def test_ctrl_c_ends_it_cleanly(server: Server, numbered: str) -> None:
    with _consuming(server.bootstrap, numbered) as running:
        assert running.stdout is not None
        assert [running.stdout.readline() for _ in range(10)][-1] == b"v9\n"
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=LIMIT)
    assert (running.returncode, out, err) == (0, b"", b"")


def test_a_closed_pipe_ends_it_cleanly(server: Server, numbered: str) -> None:
    with _consuming(server.bootstrap, numbered) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        assert running.stdout.readline() == b"v0\n"
        running.stdout.close()  # as `| head -1` does; no record comes that would tell
        assert running.wait(LIMIT) == 0
        assert running.stderr.read() == b""


def test_an_open_standard_input_is_sent_as_it_comes(server: Server, topic: str) -> None:
    producing = subprocess.Popen(
        (*PENSTOCK, "produce", topic, "--broker", server.bootstrap),
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    with producing, _consuming(server.bootstrap, topic) as running:
        assert producing.stdin is not None
        assert running.stdout is not None
        for line in (b"one\n", b"two\n"):
            producing.stdin.write(line)
            producing.stdin.flush()
            assert running.stdout.readline() == line
        producing.send_signal(signal.SIGINT)
        out, err = producing.communicate(timeout=LIMIT)
        running.terminate()
    assert (producing.returncode, err) == (130, b"")
    assert out.startswith(f"{topic}: 2 delivered, 0 failed".encode())
