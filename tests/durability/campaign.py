"""A campaign: load, deaths, and then the questions that a broker must be able to answer."""

import logging
import random
import time
from dataclasses import dataclass, field
from pathlib import Path

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from penstock.deploy.broker import BrokerUnavailable
from tests.durability import checks, load, with_aiokafka, with_librdkafka
from tests.durability.checks import Row
from tests.durability.server import FaultyServer

_SURE = 60.0  # seconds by which a write comes, under load


@dataclass
class Report:
    """What a campaign saw."""

    seed: int
    kills: int = 0
    kills_at_calls: int = 0
    kills_while_starting: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        counts = ", ".join(f"{count:,} {what}" for what, count in self.counts.items())
        return (
            f"seed {self.seed}: {self.kills} kills ({self.kills_at_calls} at a system call, "
            f"{self.kills_while_starting} while starting); {counts}; {len(self.problems)} problems"
        )


class Campaign:
    """One broker, its clients, and a number of deaths.

    Args:
        folder: the data folder, which must be empty.
        seed: what kills when is drawn from it. The threads of the clients run as they like.
        broken: a promise that the broker is to break, see `tests.durability.faults`.
        longest: seconds that a broker lives at most.
        dies_in: every life but the first ends right after a write to a file with this in its name, which is then not
            acknowledged. Default None: at random moments and random changes of files.
        transactions: whether there are clients with transactions, whose librdkafka may take its time to end.
    """

    def __init__(
        self,
        folder: Path,
        seed: int,
        *,
        fsync: str = "system",
        broken: str | None = None,
        longest: float = 0.8,
        dies_in: str | None = None,
        transactions: bool = True,
    ) -> None:
        self._rng = random.Random(seed)
        self._longest = longest
        self._dies_in = dies_in
        self._kinds = (with_librdkafka.Processor, with_aiokafka.AioProcessor) if transactions else ()
        self._faults = ["--clean-every", "0.3", *(["--break", broken] if broken else [])]
        self.report = Report(seed)
        self._server = FaultyServer(folder, fsync=fsync)
        for name in ("aiokafka", "asyncio"):
            logging.getLogger(name).setLevel(logging.CRITICAL)  # each death is many lines

    def run(self, kills: int) -> Report:
        """All of it, and the report."""
        server, rng, report = self._server, self._rng, self.report
        server.with_faults(*self._faults)
        try:
            server.start()
            self._begin()
            while report.kills < kills:
                self._live_and_die()
            server.kill()  # the last life is not to end by itself
            server.start_again(rng, self._faults, deadly=False)
            self._progress([0] * len(self._quick))  # on a slow machine some have not come to anything yet
            for actor in self._actors:
                actor.ask_to_stop()
            slow = [actor for actor in self._actors if type(actor) is with_librdkafka.Processor]
            for actor in self._actors:
                if actor not in slow:
                    actor.join(90)
            for actor in slow:
                actor.wait(10)
            server.kill()  # once more: what was acknowledged last has had no time to settle
            server.start_again(rng, self._faults, deadly=False)
            for actor in slow:
                actor.join(25)
            self._check()
        except (BrokerUnavailable, KafkaException, AssertionError) as problem:
            report.problems.append(str(problem))
        finally:
            for actor in getattr(self, "_actors", []):
                actor.ask_to_stop()
            server.stop()
        return report

    def _begin(self) -> None:
        address = self._server.bootstrap
        admin = AdminClient({"bootstrap.servers": address, **load.PATIENT})
        for future in admin.create_topics(load.TOPICS).values():
            future.result()
        self._ordered = [
            with_librdkafka.Sender(address, load.ORDERED, 0),
            with_librdkafka.Sender(address, load.ORDERED, 1),
        ]
        self._ordered.append(with_aiokafka.AioSender(address, load.ORDERED, 2))
        self._compacted = with_librdkafka.Sender(address, load.COMPACTED, 0, keys=100, size=60)
        self._kept = with_librdkafka.Sender(address, load.KEPT, 0, size=60)
        self._committers = [
            with_librdkafka.Committer(address, "group"),
            with_aiokafka.AioCommitter(address, "aio-group"),
        ]
        processors = zip(self._kinds, load.OUTPUTS, strict=False)
        self._processors = [kind(address, out, random.Random(self.report.seed)) for kind, out in processors]
        self._admin = with_librdkafka.Administrator(address)
        self._actors: list[load.Actor] = [*self._ordered, self._compacted, self._kept, *self._committers]
        self._actors += [*self._processors, self._admin]
        self._quick = [actor for actor in self._actors if type(actor) is not with_librdkafka.Processor]
        for actor in self._actors:
            actor.start()

    def _live_and_die(self) -> None:
        """At a random moment, or at a random change of a file; then the next life begins."""
        server, rng, report = self._server, self._rng, self.report
        life = rng.uniform(0.05, self._longest)
        if self._dies_in and report.kills:
            life = _SURE
        if server.wait(life):
            report.kills_at_calls += 1
        server.kill()
        report.kills += 1
        deadly = bool(self._dies_in) or (rng.random() < 0.5 and report.kills % 10 != 0)
        deaths = server.start_again(rng, self._faults, deadly=deadly, dies_in=self._dies_in)
        report.kills += deaths
        report.kills_while_starting += deaths
        if report.kills % 10 == 0:  # some progress in any case
            self._progress([actor.done for actor in self._quick])

    def _progress(self, before: list[int]) -> None:
        """Wait until every client has done more than that."""
        load.await_true(
            lambda: (
                not self._server.running
                or any(actor.problems for actor in self._actors)  # one that is gone does not go on: told at the end
                or all(now.done > then for now, then in zip(self._quick, before, strict=True))
            ),
            120,
            "every client goes on",
        )

    # -- the questions

    def _check(self) -> None:
        problems, address = self.report.problems, self._server.bootstrap
        for actor in self._actors:
            problems += actor.problems
        for sender in self._ordered:
            what = f"{sender.topic}-{sender.partition}"
            problems += checks.sequence(what, read(address, sender.topic, sender.partition), sender.told)
        rows = read(address, load.COMPACTED, 0)
        problems += checks.latest(load.COMPACTED, rows, self._compacted.written, self._compacted.told)
        kept = read(address, load.KEPT, 0)
        problems += checks.tail(load.KEPT, kept, self._kept.told, load.KEEP_BYTES // 200)
        for committer in self._committers:
            now = committed(address, committer.group)
            for partition, offset in committer.told.items():
                what = f"{committer.group} of {partition}"
                problems += checks.committed(what, now[partition], offset, committer.sent[partition])
        for each in self._processors:
            outputs = {number: [row.value for row in read(address, each.out, number)] for number in range(3)}
            found = checks.processed(outputs, committed(address, each.group), each.aborted, each.committed)
            problems += [f"{each.out}: {problem}" for problem in found]
        problems += self._topics(address)
        sent = sum(
            actor.done
            for actor in [*self._ordered, self._compacted, self._kept]
            if isinstance(actor, with_librdkafka.Sender)
        )
        self.report.counts = {
            "records": sent,
            "commits": sum(committer.done for committer in self._committers),
            "transactions": sum(each.done for each in self._processors),
            "aborts": sum(len(each.aborted) for each in self._processors),
            "topics made": self._admin.done,
            "compacted away": len(self._compacted.told) - len(rows),
            "retained away": int(kept[0].value) if kept else 0,
            "clients stuck": sum(each.stuck for each in self._processors),
        }

    def _topics(self, address: str) -> list[str]:
        admin = self._admin
        there = {
            name
            for name in AdminClient({"bootstrap.servers": address, **load.PATIENT}).list_topics(timeout=60).topics
            if "made" in name
        }
        found = [f"topic {name} was created, and is not there" for name in admin.there - there]
        found += [f"topic {name} was deleted, and is there" for name in admin.gone & there]
        return found + [f"topic {name} comes from nowhere" for name in there - admin.perhaps]


def read(address: str, topic: str, partition: int) -> list[Row]:
    """All that a committed read finds in a partition."""
    consumer = Consumer(
        {
            "bootstrap.servers": address,
            "group.id": "checks",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            "auto.offset.reset": "error",
            "fetch.wait.max.ms": 10,  # the end is told by an empty answer
            **load.PATIENT,
        }
    )
    place = TopicPartition(topic, partition)
    first, _ = consumer.get_watermark_offsets(place, timeout=60)
    consumer.assign([TopicPartition(topic, partition, first)])
    rows: list[Row] = []
    deadline = time.monotonic() + 120
    try:
        while time.monotonic() < deadline:
            for message in consumer.consume(1000, 0.05):
                if message.error() is None:
                    rows.append(Row(message.offset(), message.key(), message.value()))
                elif message.error().name() == "_PARTITION_EOF":
                    return rows
                else:
                    raise AssertionError(f"{topic}-{partition}: {message.error()}")
    finally:
        consumer.close()
    raise AssertionError(f"{topic}-{partition}: no end after {len(rows)} records")


def committed(address: str, group: str) -> dict[int, int]:
    """A group's committed offsets of the input topic."""
    consumer = Consumer({"bootstrap.servers": address, "group.id": group, **load.PATIENT})
    places = consumer.committed([TopicPartition(load.ORDERED, partition) for partition in range(3)], timeout=60)
    consumer.close()
    return {each.partition: max(each.offset, 0) for each in places}
