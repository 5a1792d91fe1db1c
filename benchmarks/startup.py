"""How long a worker takes from the command to its first record, and to stop.

    python -m benchmarks.startup [--times 10] [--on embedded --on kafka]

Each start: `python -m penstock.deploy.worker` as `penstock worker` starts it, one record waiting; the time runs until
its output can be read by a read-committed consumer. The stop: SIGTERM until the process is gone.
"""

import argparse
import asyncio
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from penstock.deploy import BrokerServer, Consumer, KafkaServer, Producer, create_topics
from tests.broker.counting import Counting, Number

BROKERS: dict[str, Callable[[Path], Any]] = {"embedded": BrokerServer, "kafka": KafkaServer}


def main() -> None:
    """Run it and print what was seen."""
    parser = argparse.ArgumentParser("python -m benchmarks.startup", description=__doc__)
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--on", choices=BROKERS, action="append")
    arguments = parser.parse_args()
    for name in arguments.on or BROKERS:
        with tempfile.TemporaryDirectory(prefix="startup-") as folder, BROKERS[name](Path(folder) / "broker") as server:
            starts, stops = asyncio.run(measure(server.bootstrap, Path(folder), arguments.times))
            print(f"{name}: {told('first record', starts)}; {told('stop', stops)}; load {os.getloadavg()[0]:.1f}")


def told(what: str, seconds: list[float]) -> str:
    """Median and largest."""
    return f"{what} {statistics.median(seconds):.2f} s (at most {max(seconds):.2f})"


async def measure(broker: str, folder: Path, times: int) -> tuple[list[float], list[float]]:
    """Seconds to the first record's output and to stop, of each start."""
    counting = Counting(f"start{int(time.time())}")
    module = counting.module(folder)
    await create_topics(broker, [counting.source, counting.copies])
    starts, stops = [], []
    async with Producer(broker) as producer, Consumer(broker, counting.copies) as consumer:
        for n in range(times):
            await (await producer.send(counting.source, Number(n), key="k"))
            command = (
                sys.executable, "-m", "penstock.deploy.worker", module, "copy",
                "--broker", broker, "--data", str(folder / "data"), "--loglevel", "warning",
            )  # fmt: skip
            began = time.monotonic()
            worker = subprocess.Popen(command)  # noqa: ASYNC220 - its start is what is measured
            while not (records := await consumer.take(timeout=30)):
                assert worker.poll() is None, "the worker ended"
            starts.append(time.monotonic() - began)
            assert [record.value.n for record in records] == [n]
            await asyncio.sleep(0.5)  # an idle worker, as it mostly is
            ended = time.monotonic()
            worker.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(worker.wait, 30) == 0
            stops.append(time.monotonic() - ended)
    return starts, stops


if __name__ == "__main__":
    main()
