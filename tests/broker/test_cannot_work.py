"""A worker that cannot work says what keeps it from working, and where, and stops."""

import asyncio
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from penstock.deploy import BrokerServer, KafkaServer
from penstock.pipelines import FOREVER, Topic
from tests.broker.running import LIMIT, PENSTOCK, keep_members, process, produce, until

MODULE = """
import asyncio, re, time
from penstock.pipelines import FOREVER, Pipeline, Topic

pipeline = Pipeline({name!r})
source = Topic({name!r} + "-source", key=str, value=int, partitions=1, retention=FOREVER)
out = Topic({name!r} + "-out", key=str, value=int)

def sleepy(value):
    if value == 7:
        time.sleep(300)
    return value

def greedy(value):  # keeps the interpreter's lock
    if value == 7:
        re.match("(a+)+$", "a" * 60 + "b")
    return value

pipeline.group("sleepy").stream(source).map(sleepy).to(out)
pipeline.group("greedy").stream(source).map(greedy).to(out)
pipeline.group("calm").stream(source).to(out)

@pipeline.group("waiting").agent(source)
async def waits(stream):
    async for value in stream:
        if value == 7:
            await asyncio.Event().wait()
"""


@pytest.fixture
def pipeline(topic_prefix: str, tmp_path: Path) -> str:
    path = tmp_path / "hindered.py"
    path.write_text(MODULE.format(name=topic_prefix))
    return str(path)


async def ended(broker: str, pipeline: str, prefix: str, group: str, folder: Path, **limits: str) -> tuple[int, str]:
    """Run a worker over ten records until it ends by itself: exit code and what it said."""
    source = Topic(f"{prefix}-source", key=str, value=int, partitions=1, retention=FOREVER)
    await produce(broker, source, [("k", n, 1_700_000_000_000) for n in range(10)])
    options = ("--group", group, "--slot", "0", "--broker", broker, "--data", str(folder / "data"))
    with process(*PENSTOCK, "worker", pipeline, *options, log=folder / "log", **limits) as worker:

        async def stopped() -> bool:
            return worker.poll() is not None

        await until(stopped, "the worker has stopped")
        return worker.returncode, (folder / "log").read_text()


def test_a_function_that_blocks_is_named_with_its_record(
    kafka: KafkaServer, pipeline: str, topic_prefix: str, tmp_path: Path
) -> None:
    run = ended(kafka.bootstrap, pipeline, topic_prefix, "sleepy", tmp_path, PENSTOCK_BLOCKED_SECONDS="5")
    code, said = asyncio.run(run)
    assert code == 70
    assert "its event loop has been blocked for 5 s" in said
    assert f"in {topic_prefix}-source[0]@7: {topic_prefix}.sleepy: map(sleepy)" in said
    assert "time.sleep(300)" in said  # the stack


def test_one_that_keeps_the_interpreter_to_itself_is_ended_too(
    kafka: KafkaServer, pipeline: str, topic_prefix: str, tmp_path: Path
) -> None:
    run = ended(kafka.bootstrap, pipeline, topic_prefix, "greedy", tmp_path, PENSTOCK_BLOCKED_SECONDS="4")
    code, said = asyncio.run(run)
    assert code == 1
    assert "in greedy" in said


def test_a_body_that_waits_for_ever_is_told_by_its_lag(
    kafka: KafkaServer, pipeline: str, topic_prefix: str, tmp_path: Path
) -> None:
    run = ended(kafka.bootstrap, pipeline, topic_prefix, "waiting", tmp_path, PENSTOCK_STALLED_SECONDS="6")
    code, said = asyncio.run(run)
    assert code in (1, 70)
    assert "nothing was read or committed for 6 s, while there are records to read" in said
    assert f"{topic_prefix}-source[0] at 0 of 10; it is at work on {topic_prefix}-source[0]@0 to 9" in said


def test_a_broker_that_hangs_is_told(pipeline: str, topic_prefix: str, tmp_path: Path) -> None:
    async def main() -> None:
        source = Topic(f"{topic_prefix}-source", key=str, value=int, partitions=1, retention=FOREVER)
        await produce(server.bootstrap, source, [("k", 1, 1_700_000_000_000)])
        options = ("--group", "calm", "--slot", "0", "--broker", server.bootstrap, "--data", str(tmp_path / "data"))
        log = tmp_path / "log"
        limit = {"PENSTOCK_SILENT_SECONDS": "8"}
        with process(*PENSTOCK, "worker", pipeline, *options, "--loglevel", "info", log=log, **limit) as worker:

            async def ready() -> bool:
                return "ready: 1 stream" in log.read_text()

            await until(ready, "the worker works")
            assert server.pid is not None
            os.kill(server.pid, signal.SIGSTOP)
            try:

                async def stopped() -> bool:
                    return worker.poll() is not None

                await until(stopped, "the worker has stopped")
            finally:
                os.kill(server.pid, signal.SIGCONT)
            assert worker.returncode in (1, 70)
            assert f"the coordinator of group '{topic_prefix}.calm'" in log.read_text()
            assert server.bootstrap in log.read_text().rpartition("has answered nothing for")[2]

    with BrokerServer(tmp_path / "broker") as server:
        asyncio.run(main())


def test_a_process_that_was_stopped_and_goes_on_is_not_taken_for_a_blocked_one(
    pipeline: str, topic_prefix: str, tmp_path: Path
) -> None:
    async def main() -> None:
        source = Topic(f"{topic_prefix}-source", key=str, value=int, partitions=1, retention=FOREVER)
        await produce(server.bootstrap, source, [("k", 1, 1_700_000_000_000)])
        options = ("--group", "calm", "--slot", "0", "--broker", server.bootstrap, "--data", str(tmp_path / "data"))
        log = tmp_path / "log"
        limit = {f"PENSTOCK_{name}_SECONDS": "6" for name in ("BLOCKED", "STALLED", "SILENT")}
        keep_members(Path(pipeline))
        with process(*PENSTOCK, "worker", pipeline, *options, "--loglevel", "info", log=log, **limit) as worker:

            async def ready() -> bool:
                return "ready: 1 stream" in log.read_text()

            await until(ready, "the worker works")
            worker.send_signal(signal.SIGSTOP)
            with pytest.raises(subprocess.TimeoutExpired):
                worker.wait(8)  # longer than any limit, shorter than its session
            worker.send_signal(signal.SIGCONT)
            until_then = time.monotonic() + 8
            while time.monotonic() < until_then:  # longer than any limit again
                assert worker.poll() is None, log.read_text()
                await asyncio.sleep(0.1)
            worker.send_signal(signal.SIGTERM)
            assert worker.wait(LIMIT) == 0

    with BrokerServer(tmp_path / "broker") as server:
        asyncio.run(main())
