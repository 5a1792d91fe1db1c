"""Apache Kafka's own command line tools, as processes."""

import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from penstock.deploy.kafka import java, jvm
from penstock.deploy.kafka.jars import Distribution

_TOOLS = Distribution("kafka-tools", "Apache Kafka's tools", Path(__file__).with_name("pom.xml"))
_MAIN = {
    "topics": "org.apache.kafka.tools.TopicCommand",
    "console-producer": "org.apache.kafka.tools.ConsoleProducer",
    "console-consumer": "org.apache.kafka.tools.consumer.ConsoleConsumer",
    "consumer-groups": "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
    "configs": "kafka.admin.ConfigCommand",
    "get-offsets": "org.apache.kafka.tools.GetOffsetShell",
    "delete-records": "org.apache.kafka.tools.DeleteRecordsCommand",
    "verifiable-producer": "org.apache.kafka.tools.VerifiableProducer",
    "verifiable-consumer": "org.apache.kafka.tools.VerifiableConsumer",
}


class Tools:
    """The tools for one broker.

    Args:
        broker: its address.
        folder: where Java may write.
    """

    def __init__(self, broker: str, folder: Path) -> None:
        self._broker, self._folder = broker, folder
        self._java = [*jvm.command(java(), _TOOLS.install(), folder), "-Xmx128m"]

    def run(self, tool: str, *arguments: str, given: str | None = None) -> list[str]:
        """The lines that a tool prints; it must end well."""
        done = self.process(tool, arguments, given)
        assert done.returncode == 0, done.stdout + done.stderr
        return [line.strip() for line in done.stdout.splitlines() if line.strip()]

    def until(self, holds: Callable[[list[str]], bool], tool: str, *arguments: str) -> list[str]:
        """What a tool prints, once that holds of it: Kafka's brokers hear of a change a moment after it was made."""
        deadline = time.monotonic() + 90
        while not holds(told := self.run(tool, *arguments)):
            assert time.monotonic() < deadline, told
        return told

    def fails(self, tool: str, *arguments: str) -> str:
        """What a tool says that must end badly."""
        done = self.process(tool, arguments, None)
        assert done.returncode != 0, done.stdout
        return done.stdout + done.stderr

    def process(
        self, tool: str, arguments: Sequence[str], given: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a tool to its end."""
        command = [*self._java, _MAIN[tool], "--bootstrap-server", self._broker, *arguments]
        return subprocess.run(
            command, cwd=self._folder, input=given, capture_output=True, text=True, timeout=200, check=False
        )
