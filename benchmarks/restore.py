"""Restoring a table from its changelog into an empty store: from the start of the replay to its end, in the process.

The rows of the restored store are counted. Penstock tells begin and end in its log, Kafka Streams by its listener.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from benchmarks.candidates import BASE, ROOT, Candidate
from benchmarks.java import PEERS, java
from benchmarks.measure import tail
from benchmarks.processes import cpu_seconds, peak_mb
from benchmarks.records import PARTITIONS
from benchmarks.runs import Run, RunFailed
from penstock.tables.rocksdb import RocksStores

KEY_BYTES, VALUE_BYTES = 16, 100
LIMIT = 180.0


@dataclass(frozen=True)
class Changelogs:
    """The changelogs of the candidates, with the same rows.

    Attributes:
        broker: bootstrap servers.
        name: of the harness's run; begins the topics' names.
        keys: how many.
    """

    broker: str
    name: str
    keys: int

    def fill(self) -> None:
        """Write them, and the empty sources."""
        for app, changelog in ((self.penstock, f"{self.penstock}.g"), (self.streams, self.streams)):
            fill(self.broker, f"{app}-source", f"{changelog}-rows-changelog", self.keys)

    @property
    def penstock(self) -> str:
        """The name of Penstock's pipeline."""
        return f"{self.name}-restore"

    @property
    def streams(self) -> str:
        """Kafka Streams' application id."""
        return f"{self.name}-streams"


def restore(candidate: Candidate, logs: Changelogs, data: Path) -> Run:
    """Restore into an empty folder.

    Raises:
        RunFailed: the candidate failed.
    """
    load = os.getloadavg()[0]
    data.parent.mkdir(parents=True, exist_ok=True)
    found = (_penstock if candidate.name == BASE else _streams)(logs, data)
    seconds, rows = found["seconds"], int(found["rows"])
    figures = {"rate": logs.keys / seconds, "cpu_us": 1e6 * found["cpu_seconds"] / logs.keys}
    figures |= {"cores": found["cpu_seconds"] / seconds, "peak_mb": found["peak_mb"]}
    right = rows == logs.keys
    verdict = "right" if right else f"WRONG: {rows:,} of {logs.keys:,} rows"
    return Run(candidate.name, logs.keys, figures, right, verdict, load)


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
        raise RunFailed("had no changelog: it was not written")


def _penstock(logs: Changelogs, data: Path) -> dict[str, Any]:
    data.mkdir()
    log = data / "log"
    command = [sys.executable, "-m", "penstock.deploy.worker", "benchmarks.peers.restore_pipeline", "g",
               "--broker", logs.broker, "--data", str(data), "--loglevel", "info"]  # fmt: skip
    with log.open("wb") as out:
        environment = {**os.environ, "RESTORE_NAME": logs.penstock}
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, cwd=ROOT, env=environment)
        try:
            _await(process, log, "offsets of")
            started, first = time.monotonic(), cpu_seconds(process.pid)
            _await(process, log, "replayed")
            seconds, last = time.monotonic() - started, cpu_seconds(process.pid)
            peak = peak_mb(process.pid)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)
    stores = RocksStores(data / f"{logs.penstock}.g" / "0" / "tables")
    rows = 0
    for partition in range(PARTITIONS):
        store = stores.read("rows", partition)
        rows += len(store)
        store.close()
    return {"seconds": seconds, "cpu_seconds": last - first, "rows": rows, "peak_mb": peak}


def _await(process: Any, log: Path, text: str) -> None:
    deadline = time.monotonic() + LIMIT
    while text not in log.read_text(errors="replace"):
        if process.poll() is not None or time.monotonic() > deadline:
            raise RunFailed(f"had no {text!r} in its log:\n{tail(log)}")
        time.sleep(0.005)


def _streams(logs: Changelogs, data: Path) -> dict[str, Any]:
    names = (logs.broker, logs.streams, f"{logs.streams}-source", str(data), str(logs.keys))
    command = [java(), "-Xmx1g", "-cp", PEERS.classpath(), "Restore", *names]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)
    except subprocess.TimeoutExpired as exc:
        raise RunFailed(f"did not restore within {LIMIT:g} s") from exc
    if done.returncode:
        raise RunFailed(f"failed:\n{done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found
