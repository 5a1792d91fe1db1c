"""Run the benchmark. Exit code 0: every restored store had every key."""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from benchmarks.java import classpath, java
from benchmarks.processes import cpu_seconds
from benchmarks.report import machine
from penstock.deploy import KafkaServer
from penstock.tables.rocksdb import RocksStores

HERE = Path(__file__).parent
PARTITIONS = 4
KEY_BYTES, VALUE_BYTES = 16, 100
LIMIT = 180.0


def main() -> int:
    """Run what the arguments say."""
    parser = argparse.ArgumentParser("python -m benchmarks.restore", description=__doc__)
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=("penstock", "kafka-streams"))
    arguments = parser.parse_args()
    runs: list[dict[str, Any]] = []
    kinds = {"penstock": _penstock, "kafka-streams": _streams}
    before = os.getloadavg()
    with tempfile.TemporaryDirectory(prefix="bench-restore-") as home, KafkaServer(Path(home, "kafka")) as server:
        for name, changelog in (("restore", "restore.g-rows-changelog"), ("streams", "streams-rows-changelog")):
            fill(server.bootstrap, f"{name}-source", changelog, arguments.keys)
        for number in range(arguments.rounds):
            order = list(kinds) if number % 2 == 0 else list(reversed(kinds))
            for kind in order:
                if arguments.only in (None, kind):
                    load = os.getloadavg()[0]
                    run = kinds[kind](server.bootstrap, Path(home, f"{kind}-{number}"), arguments.keys)
                    run = {"candidate": kind, "round": number + 1, "load": round(load, 2), **run}
                    run["rate"] = round(arguments.keys / run["seconds"])
                    run["cpu_us"] = round(1e6 * run["cpu_seconds"] / arguments.keys, 3)
                    run["right"] = run["rows"] == arguments.keys
                    runs.append(run)
                    print(run, flush=True)
    _write(arguments.keys, runs, before)
    return 0 if all(run["right"] for run in runs) else 1


def fill(broker: str, source: str, changelog: str, keys: int) -> None:
    """An empty source, and a changelog with every key once, in random order."""
    admin = AdminClient({"bootstrap.servers": broker})
    topics = [
        NewTopic(source, PARTITIONS, 1), NewTopic(changelog, PARTITIONS, 1, config={"cleanup.policy": "compact"})
    ]  # fmt: skip
    for future in admin.create_topics(topics).values():
        future.result()
    shuffled = list(range(keys))
    rng = random.Random(7)
    rng.shuffle(shuffled)
    producer = Producer(
        {"bootstrap.servers": broker, "partitioner": "murmur2_random", "linger.ms": 50, "batch.size": 1 << 17,
         "queue.buffering.max.messages": 1_000_000}
    )  # fmt: skip
    for number in shuffled:
        while True:
            try:
                producer.produce(changelog, rng.randbytes(VALUE_BYTES), b"%0*d" % (KEY_BYTES, number))
                break
            except BufferError:
                producer.poll(0.1)
    if producer.flush(LIMIT):
        raise RuntimeError("the changelog was not written")


def _penstock(broker: str, data: Path, keys: int) -> dict[str, Any]:
    data.mkdir()
    log = data / "log"
    command = [sys.executable, "-m", "penstock.deploy.worker", "benchmarks.restore.pipeline", "g",
               "--broker", broker, "--data", str(data), "--loglevel", "info"]  # fmt: skip
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, cwd=HERE.parents[1])
        try:
            _await(process, log, "offsets of")
            started, first = time.monotonic(), cpu_seconds(process.pid)
            _await(process, log, "replayed")
            seconds, last = time.monotonic() - started, cpu_seconds(process.pid)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)
    stores = RocksStores(data / "restore.g" / "0" / "tables")
    rows = 0
    for partition in range(PARTITIONS):
        store = stores.read("rows", partition)
        rows += len(store)
        store.close()
    return {"seconds": round(seconds, 3), "cpu_seconds": round(last - first, 3), "rows": rows}


def _await(process: Any, log: Path, text: str) -> None:
    deadline = time.monotonic() + LIMIT
    while text not in log.read_text(errors="replace"):
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"no {text!r} in the worker's log:\n{log.read_text(errors='replace')[-3000:]}")
        time.sleep(0.005)


def _streams(broker: str, data: Path, keys: int) -> dict[str, Any]:
    command = [
        java(),
        "-Xmx1g",
        "-cp",
        classpath(),
        "Restore",
        broker,
        "streams",
        "streams-source",
        str(data),
        str(keys),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)
    if done.returncode:
        raise RuntimeError(f"Kafka Streams failed:\n{done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _write(keys: int, runs: list[dict[str, Any]], before: Any) -> None:
    now = datetime.now(UTC)
    names = dict.fromkeys(run["candidate"] for run in runs)
    content = {
        "workload": "restore", "date": f"{now:%Y-%m-%dT%H:%MZ}", "machine": machine(), "keys": keys,
        "key_bytes": KEY_BYTES, "value_bytes": VALUE_BYTES, "partitions": PARTITIONS,
        "load_average": {"before": before, "after": os.getloadavg()},
        "summary": {
            name: {f: median(run[f] for run in runs if run["candidate"] == name) for f in ("rate", "cpu_us")}
            for name in names
        },
        "runs": runs,
    }  # fmt: skip
    path = HERE.with_name("results") / f"{now:%Y-%m-%d}-restore.json"
    path.write_text(json.dumps(content, indent=2) + "\n")
    print(json.dumps(content["summary"], indent=2))


if __name__ == "__main__":
    sys.exit(main())
