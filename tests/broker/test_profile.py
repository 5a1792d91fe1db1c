"""`penstock profile` of a running worker."""

import asyncio
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from penstock.deploy import BrokerServer, create_topics
from tests.broker.brokers import EMBEDDED
from tests.broker.cli import answer, penstock
from tests.broker.counting import Counting, Number
from tests.broker.running import PENSTOCK, process, produce, read, until

pytestmark = pytest.mark.parametrize("server", [EMBEDDED])
STEPS = {"aggregate 'tally' (count=Count, total=Sum)", "group_by 'by-key' (key)"}
PARTS = {"decode", "fetch"}


def test_each_step_of_a_running_group_has_its_share(
    server: str, counting: Counting, module: str, tmp_path: Path
) -> None:
    data = ("--data", str(tmp_path / "data"))
    picture = tmp_path / "profile.svg"

    async def main() -> None:
        async def at_work() -> bool:
            return bool(await read(broker.bootstrap, counting.parities))

        with BrokerServer() as broker:
            await create_topics(broker.bootstrap, [counting.source, counting.tallies, counting.parities])
            command = (*PENSTOCK, "worker", module, "--group", "count", "--slot", "0", "--broker", broker.bootstrap)
            with process(*command, *data, log=tmp_path / "worker.log"):
                stop = asyncio.Event()

                async def load() -> None:
                    n = 0
                    while not stop.is_set():
                        records = [(None, Number(n + i), 1_000) for i in range(20_000)]
                        await produce(broker.bootstrap, counting.source, records)
                        n += len(records)

                loading = asyncio.create_task(load())
                asked = ("profile", module, "--group", "count", *data, "--seconds", "3", "--flamegraph", str(picture))

                async def looked_at() -> Any:  # the more often, the less of the machine the worker gets
                    found = await asyncio.to_thread(answer, broker.bootstrap, *asked)
                    return found if {share["what"] for share in found} >= STEPS | PARTS else None

                try:
                    await until(at_work, "the worker has results of both stages")
                    found = await until(looked_at, "every step was seen at work")
                finally:
                    stop.set()
                    await loading
        assert {share["what"] for share in found if share["is_step"]} >= STEPS
        assert {share["what"] for share in found if not share["is_step"]} >= PARTS
        assert sum(share["share"] for share in found) == pytest.approx(1, abs=0.01)
        assert ElementTree.parse(picture).getroot().tag.endswith("svg")

    asyncio.run(main())


def test_what_cannot_be_looked_at_is_told(server: str, module: str, tmp_path: Path) -> None:
    data = ("--data", str(tmp_path / "data"))
    done = penstock("", "profile", module, "--group", "count", *data, code=1)
    assert "no worker of" in done.output
    assert "has slot 0 in" in done.output
    done = penstock("", "profile", module, "--group", "nobody", *data, code=1)
    assert "nobody" in done.output
