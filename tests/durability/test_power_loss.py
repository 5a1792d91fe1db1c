"""After a power failure: with --fsync always, everything that was acknowledged is there."""

import random
import threading
from pathlib import Path

import pytest
from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import AdminClient

from penstock.deploy.broker import BrokerServer, BrokerUnavailable
from tests.durability import campaign, checks, load, power, with_librdkafka
from tests.durability.server import FaultyServer

ROUNDS = 2


def failed(tmp_path: Path, fsync: str, seed: int, *, held: bool = False) -> tuple[list[str], int]:
    """Load, a kill in the middle of it, and the power failure; returns what is wrong, and how many bytes were lost.

    Where `held`, it comes while records are being forced to the disk, and else at any time.
    """
    rng = random.Random(seed)
    data, syncs, copy = tmp_path / f"data-{seed}", tmp_path / f"syncs-{seed}", tmp_path / f"copy-{seed}"
    server = FaultyServer(data, fsync=fsync)
    server.with_faults("--synced", str(syncs))
    with server:
        address = server.bootstrap
        admin = AdminClient({"bootstrap.servers": address, **load.PATIENT})
        for future in admin.create_topics(load.TOPICS).values():
            future.result()
        told: list[dict[int, int]] = [{}, {}]
        committed: dict[int, int] = {}
        stop = threading.Event()

        def send(partition: int) -> None:
            producer = Producer(
                {"bootstrap.servers": address, "enable.idempotence": True, "linger.ms": 1, **load.PATIENT}
            )
            number = 0
            while not stop.is_set():
                if len(producer) < 20:
                    keep = lambda error, message, n=number: error or told[partition].update({n: message.offset()})  # noqa: E731
                    producer.produce(load.ORDERED, b"%030d" % number, partition=partition, on_delivery=keep)
                    number += 1
                producer.poll(0.001)

        committer = with_librdkafka.Committer(address, "group")
        processor = with_librdkafka.Processor(address, load.OUTPUTS[0], random.Random(seed))
        threads = [threading.Thread(target=send, args=(partition,)) for partition in (0, 1)]
        for thread in threads:
            thread.start()
        committer.start()
        processor.start()
        load.await_true(lambda: processor.done > 5 + rng.randrange(20) and committer.done > 5, 150, "there is load")
        if held:
            syncs.with_suffix(".hold").touch()
            load.await_true(syncs.with_suffix(".held").exists, 150, "records are on their way to the disk")
        server.kill()
        acknowledged, sure = [dict(each) for each in told], list(processor.committed)
        committed.update(committer.told)
        aborted, sent = set(processor.aborted), dict(committer.sent)
        stop.set()
        committer.ask_to_stop()
        processor.ask_to_stop()
        for thread in threads:
            thread.join()
        lost = power.fail(data, syncs, copy, rng)
    with BrokerServer(copy) as after:
        problems = list(committer.problems)
        for partition in (0, 1):
            rows = campaign.read(after.bootstrap, load.ORDERED, partition)
            problems += checks.sequence(f"ordered-{partition}", rows, acknowledged[partition])
        now = campaign.committed(after.bootstrap, "group")
        for partition, offset in committed.items():
            problems += checks.committed(f"group of {partition}", now[partition], offset, sent[partition])
        outputs = {n: [row.value for row in campaign.read(after.bootstrap, load.OUTPUTS[0], n)] for n in range(3)}
        progress = campaign.committed(after.bootstrap, processor.group)
        problems += checks.processed(outputs, progress, aborted, sure)
    return problems, lost


def test_what_was_acknowledged_survives(tmp_path: Path) -> None:
    total = 0
    for seed in range(ROUNDS):
        problems, lost = failed(tmp_path, "always", seed, held=seed % 2 == 0)
        assert problems == [], f"seed {seed}"
        total += lost
    assert total > 0, "the failures lost something, if nothing that was promised"


def test_the_failure_is_one(tmp_path: Path) -> None:
    """Where the system may write in its own time, records are lost: what the test above would see."""
    try:
        problems, _ = failed(tmp_path, "system", 1)
    except (KafkaException, BrokerUnavailable) as problem:  # a topic is gone, say
        problems = [str(problem)]
    assert problems


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(load.PATIENT, "log_level", 0)
