"""Kafka's own Java tools, from the jars that a server runs from."""

import subprocess
from pathlib import Path

from penstock.deploy.kafka import java, jvm
from penstock.deploy.kafka.server import JavaServer


def tool(server: JavaServer, main: str, *args: str, folder: Path) -> str:
    """Run a tool's main class to its end; what it printed."""
    command = [*jvm.command(java(), server.distribution.install(), folder), "-Xmx128m", main, *args]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
