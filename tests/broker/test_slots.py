"""Slots: a restarted worker takes its place again, one that leaves gives it up, and two never share one."""

import asyncio
import re
import signal
from pathlib import Path
from typing import Any

import pytest

from penstock.deploy import BrokerServer, KafkaServer, Slot, Supervisor
from tests.broker.counting import Counting, Number
from tests.broker.running import PENSTOCK, SESSION, finish, keep_members, process, produce, read, until


@pytest.fixture(params=["embedded", "kafka"])
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """Where the workers run. The embedded broker expires members that disconnect, as `penstock up` has it."""
    if request.param == "kafka":
        kafka: KafkaServer = request.getfixturevalue("kafka")
        yield kafka.bootstrap
        return
    with BrokerServer(tmp_path / "broker", expire_on_disconnect=True) as server:
        yield server.bootstrap


def starts(log: Path) -> dict[str, list[int]]:
    """Per slot how many stream partitions each of its assignments had."""
    found: dict[str, list[int]] = {}
    for slot, count in re.findall(r"copy\[(\d)\].*ready: (\d+) stream partitions", log.read_text()):
        found.setdefault(slot, []).append(int(count))
    return found


class Copies:
    """Supervised workers of the group `copy`."""

    def __init__(self, counting: Counting, module: str, broker: str, folder: Path, workers: int) -> None:
        keep_members(Path(module))
        self.counting, self.broker, self.log = counting, broker, folder / "log"
        self.out = self.log.open("wb")
        slots = [Slot("copy", n) for n in range(workers)]
        self.said: list[str] = []
        self.supervisor = Supervisor(
            module, slots, broker=broker, data=folder / "data", log=self.out, say=self.said.append
        )
        self.sent = 0

    async def send(self, count: int) -> None:
        records = [(f"k{n}", Number(n), n) for n in range(self.sent, self.sent + count)]
        self.sent += count
        await produce(self.broker, self.counting.source, records)

    async def all_read(self) -> bool:
        try:
            return len(await read(self.broker, self.counting.copies)) == self.sent
        except Exception:
            return False  # not there yet

    def told(self, slot: str, counts: list[int]) -> Any:
        async def condition() -> bool:
            return starts(self.log).get(slot, []) == counts

        return condition

    async def settled(self, each: int) -> dict[str, list[int]]:
        """Wait until every worker has its share. Those that came first had more before."""

        async def shared() -> bool:
            found = starts(self.log)
            return len(found) == len(self.supervisor.slots) and all(c[-1] == each for c in found.values())

        await until(shared, "the workers share the partitions")
        return starts(self.log)


@pytest.mark.parametrize("how", ["killed", "rolled"])
def test_a_restart_moves_no_partition(broker: str, counting: Counting, module: str, tmp_path: Path, how: str) -> None:
    async def main() -> None:
        copies = Copies(counting, module, broker, tmp_path, 2)
        await copies.send(100)
        running = asyncio.ensure_future(copies.supervisor.run())
        try:
            before = await copies.settled(2)
            pids = [copies.supervisor.pid(slot) for slot in copies.supervisor.slots]
            if how == "killed":
                copies.supervisor.kill(Slot("copy", 1))
                wanted = {"0": before["0"], "1": [*before["1"], 2]}
            else:
                assert await copies.supervisor.roll()
                assert copies.said == [s for s in copies.said if re.fullmatch(r"copy\[\d\] restarted in \d+\.\d s", s)]
                wanted = {slot: [*counts, 2] for slot, counts in before.items()}
            await until(copies.told("1", wanted["1"]), "the slot has its partitions again")
            await copies.send(100)
            await until(copies.all_read, "all is copied, once")
            assert starts(copies.log) == wanted  # nobody else was assigned anew
            now = [copies.supervisor.pid(slot) for slot in copies.supervisor.slots]
            assert [a == b for a, b in zip(pids, now, strict=True)] == [how == "killed", False]
        finally:
            await copies.supervisor.stop()
            await asyncio.gather(running, return_exceptions=True)

    asyncio.run(main())


def test_a_worker_that_stops_for_good_gives_its_place_up(
    broker: str, counting: Counting, module: str, tmp_path: Path
) -> None:
    async def main() -> None:
        copies = Copies(counting, module, broker, tmp_path, 2)
        await copies.send(100)
        running = asyncio.ensure_future(copies.supervisor.run())
        try:
            before = await copies.settled(2)
            pid = copies.supervisor._processes[Slot("copy", 1)]
            stopped = asyncio.get_running_loop().time()
            pid.send_signal(signal.SIGTERM)
            await until(copies.told("0", [*before["0"], 4]), "the other one has all partitions")
            assert asyncio.get_running_loop().time() - stopped < SESSION - 10  # before its session ends
            await copies.send(100)
            await until(copies.all_read, "all is copied, once")
        finally:
            await copies.supervisor.stop()
            await asyncio.gather(running, return_exceptions=True)

    asyncio.run(main())


def test_a_slot_in_use_is_refused_before_anything_is_touched(
    kafka: KafkaServer, counting: Counting, module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same folder: the lock names the process."""
    options = ("worker", module, "--group", "copy", "--slot", "7", "--broker", kafka.bootstrap, "--loglevel", "info")

    async def main() -> None:
        await produce(kafka.bootstrap, counting.source, [("k", Number(1), 0)])
        data = ("--data", str(tmp_path / "data"))
        with process(*PENSTOCK, *options, *data, log=tmp_path / "first") as first:

            async def ready() -> bool:
                return "ready: 4 stream" in (tmp_path / "first").read_text()

            await until(ready, "the first one works")
            second = await asyncio.to_thread(finish, *PENSTOCK, *options, *data)
            assert second.returncode == 2
            text = second.stderr + second.stdout
            assert f"slot '7' of group '{counting.pipeline.name}.copy' is taken: process {first.pid} holds" in text
            assert "--slot" in text
            await produce(kafka.bootstrap, counting.source, [("k", Number(2), 0)])

            async def copied() -> bool:
                return len(await read(kafka.bootstrap, counting.copies)) == 2

            await until(copied, "the first one goes on")

    asyncio.run(main())


def test_of_two_machines_with_one_slot_the_newer_goes_on(
    kafka: KafkaServer, counting: Counting, module: str, tmp_path: Path
) -> None:
    """Other folders, as on two machines: the broker fences the older worker, which says so and must not come back."""
    options = ("worker", module, "--group", "copy", "--slot", "7", "--broker", kafka.bootstrap, "--loglevel", "info")

    async def main() -> None:
        await produce(kafka.bootstrap, counting.source, [("k", Number(1), 0)])
        one, two = (process(*PENSTOCK, *options, "--data", str(tmp_path / n), log=tmp_path / f"{n}.log") for n in "ab")
        with one as first:

            async def copied() -> bool:
                try:
                    return len(await read(kafka.bootstrap, counting.copies)) == 1
                except Exception:
                    return False

            await until(copied, "the first one works")
            with two as second:

                async def ended() -> bool:
                    return first.poll() is not None

                await until(ended, "the first one has ended")
                assert first.returncode == 2
                text = (tmp_path / "a.log").read_text()
                assert f"another worker with slot '7' of group '{counting.pipeline.name}.copy' has started" in text
                records = [(f"k{n}", Number(n), 0) for n in range(2, 100)]
                await produce(kafka.bootstrap, counting.source, records)

                async def rest() -> bool:
                    return len(await read(kafka.bootstrap, counting.copies)) == 99

                await until(rest, "the second one has the rest, once")
                assert second.poll() is None

    asyncio.run(main())
