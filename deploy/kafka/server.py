"""One Java server of ours on loopback ports, which keeps everything in one folder.

The folder holds ``kafka/`` or ``zookeeper/`` (the data), ``server.properties``, ``server.log`` (the server's log),
``server.out`` (what Java prints), ``lock`` and ``tmp/``. Java writes nowhere else.
"""

import atexit
import os
import signal
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import ClassVar, Self

from penstock.deploy.kafka import jars as _jars
from penstock.deploy.kafka import jvm
from penstock.deploy.kafka.folder import DataFolder
from penstock.deploy.kafka.jars import Distribution, KafkaUnavailable
from penstock.deploy.kafka.process import HOST, Port, Process

_POLL = 0.02  # seconds between two looks at a server that starts


class JavaServer:
    """A server's life: start, stop, kill, pause. What it runs and when it is ready, its subclasses say.

    A context manager. On Linux the server dies with the process that started it, however that ends. The terminal's
    Ctrl-C does not reach it, so that clients can finish first.

    Args:
        data: the folder to keep everything in, made if need be, kept at `stop` and used again at the next `start`. By
            default a temporary one, removed at `stop`; what a killed process left of one goes at the next `start`.
        port: the port clients connect to. 0, the default, takes a free one, the same at later starts of this object.
        heap_mb: Java's largest heap, in MB. The default is ample for development: idle, all of Java takes 180 MB.
        properties: entries to add, or to put in the place of the development settings.
        java_options: for Java, behind those of development (a quick compiler and a small collector), so that they
            prevail: a server that is to be fast for long wants Java's own.

    Raises:
        ValueError: `properties` sets something that this class decides (ports, roles, folders).
    """

    distribution: ClassVar[Distribution] = _jars.KAFKA
    """Its jars."""
    _main: ClassVar[tuple[str, ...]] = ("kafka.Kafka", "server.properties")
    _name: ClassVar[str] = "Kafka"
    _ports_wanted: int = 1
    _development: ClassVar[Mapping[str, str]] = {}

    def __init__(
        self,
        data: Path | None = None,
        *,
        port: int = 0,
        heap_mb: int = 512,
        properties: Mapping[str, str] | None = None,
        java_options: Iterable[str] = (),
    ) -> None:
        self._java_options = tuple(java_options)
        self._given = None if data is None else data.absolute()
        self._port = port
        self._heap_mb = heap_mb
        self._properties = dict(properties or {})
        self._process: Process | None = None
        self._folder: DataFolder | None = None
        self._ports: list[Port] = []  # the first is for clients

    @property
    def bootstrap(self) -> str:
        """``127.0.0.1:PORT``, for a client's bootstrap servers. Raises RuntimeError where no port was taken yet."""
        if not self._port:
            raise RuntimeError(f"the {self._name} server has no port before start()")
        return f"{HOST}:{self._port}"

    @property
    def data(self) -> Path:
        """The data folder. Raises RuntimeError where it is a temporary one and the server is stopped."""
        folder = self._folder.path if self._folder is not None else self._given
        if folder is None:
            raise RuntimeError(
                f"the {self._name} server's data folder is temporary: it is there between start() and stop()"
            )
        return folder

    @property
    def log(self) -> Path:
        """The server's own log file."""
        return self.data / "server.log"

    @property
    def pid(self) -> int | None:
        """The process id, or None while it does not run."""
        return self._process.popen.pid if self._process is not None and self.running else None

    @property
    def running(self) -> bool:
        """Whether the process is alive."""
        return self._process is not None and self._process.popen.poll() is None

    def start(self, timeout: float = 60.0) -> None:
        """Start the server, and return when it answers clients. Nothing happens where it runs already.

        Installs its jars first if need be.

        Args:
            timeout: seconds to wait for it. A start takes one or two; the default leaves room for a loaded machine.

        Raises:
            KafkaUnavailable: no jars, no Java, a taken port or folder, or, with the end of its log, a server that ended
                or was not ready in time. Nothing is left running.
        """
        if not self.running:
            self._start(self.distribution.install(), timeout, ())

    def stop(self, timeout: float = 30.0) -> None:
        """Stop the server and wait for its end. A temporary data folder is removed. Does no harm where it is stopped.

        Args:
            timeout: seconds that a clean shutdown (SIGTERM) may take before SIGKILL. It takes well under one; the
                default leaves room for a loaded machine.
        """
        self._end(signal.SIGTERM, timeout)
        self._release()

    def kill(self) -> None:
        """End the server at once, as a crash would (SIGKILL). Port and data stay, and `start` recovers it from them."""
        self._end(signal.SIGKILL, None)

    def pause(self) -> None:
        """Freeze it (SIGSTOP), as a machine that hangs: its connections stay open and nothing is answered."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on after `pause`."""
        self._signal(signal.SIGCONT)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # ---- what subclasses say

    def _configured(self, ports: list[int]) -> dict[str, str]:
        """The properties that `_ports_wanted` ports make; those that nobody may change."""
        raise NotImplementedError

    def _ready(self) -> bool:
        """Whether it answers clients."""
        raise NotImplementedError

    def _before(self, folder: DataFolder, properties: Mapping[str, str], tool: list[str], jars: Path) -> None:
        """What comes before a start; `tool` is Java with the jars, without a main class."""

    # ---- a start in two steps: the nodes of a cluster begin together, and are ready together

    def _start(self, jars: Path, timeout: float, flags: Iterable[str]) -> None:
        deadline = time.monotonic() + timeout
        self._begin(jars, flags)
        self._await_ready(deadline, timeout)

    def _begin(self, jars: Path, flags: Iterable[str]) -> None:
        java = _jars.java()
        self.kill()  # reaps one that ended by itself
        atexit.register(self._at_exit, os.getpid())
        try:
            folder = self._claim()
            properties = self._configured([port.number for port in self._ports])
            properties |= {key: value for key, value in self._development.items() if key not in properties}
            properties |= self._properties
            folder.renew(properties)
            command = jvm.command(java, jars, folder.tmp)
            self._before(folder, properties, command, jars)
            command += [f"-Xmx{self._heap_mb}m", *jvm.shared_classes(java, jars)]
            command += [*self._java_options, *flags, *self._main]
            self._process = Process(command, folder)
        except BaseException:
            self._drop()
            raise

    def _claim(self) -> DataFolder:
        """Take folder and ports, unless `kill` left them with us."""
        if self._folder is None:
            self._folder = DataFolder(self._given)
        while len(self._ports) < self._ports_wanted:
            self._ports.append(Port(0 if self._ports else self._port))
        self._port = self._ports[0].number
        return self._folder

    def _await_ready(self, deadline: float, timeout: float) -> None:
        try:
            while not self._ready():
                tail = self._folder.tail() if self._folder is not None else ""
                if not self.running:
                    raise KafkaUnavailable(f"{self._name} ended while it started:\n{tail}")
                if time.monotonic() > deadline:
                    raise KafkaUnavailable(f"{self._name} was not ready within {timeout:g} s:\n{tail}")
                time.sleep(_POLL)
        except BaseException:
            self._drop()
            raise

    # ---- an end

    def _drop(self) -> None:
        self._end(signal.SIGKILL, None)
        self._release()

    def _end(self, how: signal.Signals, timeout: float | None) -> None:
        if self._process is not None:
            self._signal(signal.SIGCONT)  # one that is paused could not hear a SIGTERM
            self._process.end(how, timeout)
            self._process = None

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.popen.send_signal(number)

    def _release(self) -> None:
        atexit.unregister(self._at_exit)
        while self._ports:
            self._ports.pop().release()
        if self._folder is not None:
            self._folder.release()
            self._folder = None

    def _at_exit(self, owner: int) -> None:
        if os.getpid() == owner:  # not in a forked child
            self.stop()
