"""Java as a child process that dies with us, and the loopback ports it listens on."""

import os
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import Future

from penstock.deploy.kafka.folder import DataFolder
from penstock.deploy.kafka.jars import KafkaUnavailable

HOST = "127.0.0.1"

# Runs between fork and Java: asks Linux to kill this process when its parent dies, unless that has happened already.
_DIE_WITH_PARENT = """
import ctypes, os, signal, sys
PR_SET_PDEATHSIG = 1
ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL))
if os.getppid() != int(sys.argv[1]):
    sys.exit("the parent process is gone")
os.execv(sys.argv[2], sys.argv[2:])
"""


class Process:
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


class Port:
    """A loopback port for Java to listen on; 0 takes a free one.

    On Linux we stay bound to it without listening, which keeps it from everyone but a listener with SO_REUSEADDR, as
    Java is. Elsewhere that would keep Java out too.
    """

    def __init__(self, number: int) -> None:
        self._socket = socket.socket()
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.bind((HOST, number))
        except OSError as error:
            self._socket.close()
            raise KafkaUnavailable(f"port {number} of {HOST} cannot be had for Kafka: {error.strerror}") from error
        self.number: int = self._socket.getsockname()[1]
        if sys.platform != "linux":
            self._socket.close()

    def release(self) -> None:
        self._socket.close()
