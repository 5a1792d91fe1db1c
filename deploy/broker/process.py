"""The broker as a child process, used as `penstock.deploy.kafka.KafkaServer` is."""

import atexit
import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from penstock.deploy.broker.folder import DataFolder, FolderInUse
from penstock.tables.errors import PenstockError

_HOST = "127.0.0.1"


class BrokerUnavailable(PenstockError):
    """The broker does not start."""


class BrokerServer:
    """One embedded broker on 127.0.0.1, in a process of its own.

    A context manager: ``with BrokerServer() as broker: ... broker.bootstrap``. It ends with the process that started
    it, however that ends. The terminal's Ctrl-C does not reach it, so that clients can finish first.

    Args:
        data: the folder to keep everything in, made if need be, kept at `stop` and used again at the next `start`. By
            default a temporary one, removed at `stop`; what a killed process left of one goes at the next `start`.
        port: the port clients connect to. 0, the default, takes a free one, the same at later starts of this object.
        fsync: ``always``, ``system`` or a number of milliseconds; `penstock.deploy.broker.log.Fsync` says what each
            promises.
        expire_on_disconnect: a group member is expired when its connection closes, not when its session times out.
        tls_cert: the server's certificate, a PEM file, for TLS. It must be good for 127.0.0.1.
        tls_key: its private key. Default None: it is in `tls_cert`.
        tls_client_ca: authorities of the certificates that clients must show. Default None: none is asked for.
        sasl: the mechanisms that clients may authenticate by: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512. Default: nobody is
            asked.
        users: the users file. Default None: ``users.json`` in the data folder.
    """

    def __init__(
        self,
        data: Path | None = None,
        *,
        port: int = 0,
        fsync: str = "system",
        expire_on_disconnect: bool = False,
        tls_cert: Path | None = None,
        tls_key: Path | None = None,
        tls_client_ca: Path | None = None,
        sasl: Sequence[str] = (),
        users: Path | None = None,
    ) -> None:
        self._given = None if data is None else data.absolute()
        self._port = port
        self._options = ["--fsync", fsync, *(["--expire-on-disconnect"] if expire_on_disconnect else [])]
        files = {"--tls-cert": tls_cert, "--tls-key": tls_key, "--tls-client-ca": tls_client_ca, "--users": users}
        for option, file in files.items():
            self._options += [option, str(file.absolute())] if file is not None else []
        self._options += ["--sasl", ",".join(sasl)] if sasl else []
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: DataFolder | None = None
        self._reserved: socket.socket | None = None
        self._program: list[str] = ["-m", "penstock.deploy.broker"]

    @property
    def bootstrap(self) -> str:
        """``127.0.0.1:PORT``, for a client's bootstrap servers. Raises RuntimeError where no port was taken yet."""
        if not self._port:
            raise RuntimeError("the broker has no port before start()")
        return f"{_HOST}:{self._port}"

    @property
    def data(self) -> Path:
        """The data folder. Raises RuntimeError where it is a temporary one and the broker is stopped."""
        folder = self._folder.path if self._folder is not None else self._given
        if folder is None:
            raise RuntimeError("the broker's data folder is temporary: it is there between start() and stop()")
        return folder

    @property
    def log(self) -> Path:
        """The broker's own log file."""
        return self.data / "broker.log"

    @property
    def pid(self) -> int | None:
        """The process id, or None while it does not run."""
        return self._process.pid if self._process is not None and self.running else None

    @property
    def running(self) -> bool:
        """Whether the process is alive."""
        return self._process is not None and self._process.poll() is None

    def start(self, timeout: float = 30.0) -> None:
        """Start the broker, and return when it answers clients. Nothing happens where it runs already.

        Args:
            timeout: seconds to wait for it. A start takes a quarter of one; the default leaves room for a loaded
                machine, and for the recovery of large logs after a crash.

        Raises:
            BrokerUnavailable: a taken port or folder, or, with the end of its log, a broker that ended or was not
                ready in time. Nothing is left running.
        """
        if self.running:
            return
        self.kill()  # reaps one that ended by itself
        atexit.register(self._at_exit, os.getpid())
        try:
            self._claim()
            self._process = self._spawn()
            self._await_ready(timeout)
        except BaseException:
            self.kill()
            self._release()
            raise

    def stop(self, timeout: float = 30.0) -> None:
        """Stop the broker and wait for its end. A temporary data folder is removed. Does no harm where it is stopped.

        Args:
            timeout: seconds that a clean shutdown (SIGTERM) may take before SIGKILL.
        """
        self._end(signal.SIGTERM, timeout)
        self._release()

    def kill(self) -> None:
        """End the broker at once, as a crash would (SIGKILL). Port and data stay, and `start` recovers it from them."""
        self._end(signal.SIGKILL, None)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _claim(self) -> None:
        """Take folder and port, unless `kill` left them with us."""
        if self._folder is None:
            try:
                self._folder = DataFolder(self._given)
            except FolderInUse as error:
                raise BrokerUnavailable(str(error)) from error
        if self._reserved is None:
            self._reserved = _reserve(self._port)
            self._port = self._reserved.getsockname()[1]

    def _spawn(self) -> subprocess.Popen[bytes]:
        assert self._folder is not None
        lock = self._folder.lock
        command = [sys.executable, *self._program, "--data", str(self._folder.path)]
        command += ["--listen", self.bootstrap, "--child", str(lock), *self._options]
        with self.log.open("ab") as out:
            return subprocess.Popen(
                command,
                stdin=subprocess.PIPE,  # ends when we do, and the broker with it
                stdout=subprocess.PIPE,  # one line: ready, or why not
                stderr=out,
                pass_fds=(lock,),
                start_new_session=True,
            )

    def _await_ready(self, timeout: float) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        out = self._process.stdout
        deadline = time.monotonic() + timeout
        told = b""
        while not told.endswith(b"\n"):
            left = deadline - time.monotonic()
            if not select.select([out], [], [], max(left, 0))[0]:
                raise BrokerUnavailable(f"the broker was not ready within {timeout:g} s:\n{self._tail()}")
            chunk = os.read(out.fileno(), 4096)
            if not chunk:
                raise BrokerUnavailable(f"the broker ended while it started:\n{self._tail()}")
            told += chunk
        word, _, rest = told.decode().strip().partition(" ")
        if word != "ready":
            raise BrokerUnavailable(rest)

    def _tail(self) -> str:
        with contextlib.suppress(FileNotFoundError):
            return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-20:])
        return ""

    def _end(self, how: signal.Signals, timeout: float | None) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(how)
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()

    def _release(self) -> None:
        atexit.unregister(self._at_exit)
        if self._reserved is not None:
            self._reserved.close()
            self._reserved = None
        if self._folder is not None:
            self._folder.release()
            self._folder = None

    def _at_exit(self, owner: int) -> None:
        if os.getpid() == owner:  # not in a forked child
            self.stop()


def _reserve(port: int) -> socket.socket:
    """A loopback port, 0 for a free one. We stay bound to it without listening, which keeps it from everyone but a
    listener with SO_REUSEADDR, as our child is; clients find the broker where it was, also after a kill."""
    reserved = socket.socket()
    try:
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reserved.bind((_HOST, port))
    except OSError as error:
        reserved.close()
        raise BrokerUnavailable(f"port {port} of {_HOST} cannot be had: {error.strerror}") from error
    return reserved
