"""``python -m penstock.deploy.broker --data DIR --listen HOST:PORT``: a broker in this process."""

import argparse
import asyncio
import contextlib
import errno
import gc
import logging
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

from penstock.deploy.broker.broker import Broker, Settings
from penstock.deploy.broker.folder import DataFolder, FolderInUse, sign
from penstock.deploy.broker.log import Fsync, LogDamaged
from penstock.deploy.broker.security import Address, Listener, SecurityProblem, Wanted, address_text, users_file
from penstock.deploy.broker.security.tls import HANDSHAKE_SECONDS, SHUTDOWN_SECONDS
from penstock.deploy.broker.server import bind

log = logging.getLogger("penstock.broker")

_BACKLOG = 512  # connections that may wait to be accepted
VACATED_SECONDS = 1.0
"""For which a port is waited for that our parent keeps for us: a process of the broker that was killed a moment ago can
still have it."""


class _Refused(Exception):
    """The broker cannot start, and why."""


def main(arguments: list[str] | None = None) -> None:
    """Run until SIGTERM or SIGINT, or until standard input ends where `--child` is given."""
    options = _options(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        with contextlib.ExitStack() as held:
            _hold_folder(options, held)
            if options.repair:
                _repair(options.data.absolute())
                return
            with contextlib.suppress(KeyboardInterrupt):
                _run(options)
    except (_Refused, FolderInUse, SecurityProblem, LogDamaged) as error:
        if options.child:
            _say(f"error {error}")
        sys.exit(f"penstock broker: {error}")


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="penstock broker", description=__doc__, formatter_class=_formatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder to keep everything in, made if need be")
    parser.add_argument("--listen", default="127.0.0.1:9092", help="HOST:PORT for clients; port 0 takes a free one")
    parser.add_argument("--advertise", metavar="HOST:PORT", help="where clients are told to connect; default: --listen")
    parser.add_argument("--fsync", type=Fsync.parse, default=Fsync.SYSTEM, help="always, milliseconds, or system")
    parser.add_argument("--expire-on-disconnect", action="store_true", help="no session timeout for killed members")
    parser.add_argument("--auto-create", action="store_true", help="asking for a topic creates it")
    parser.add_argument("--partitions", type=int, default=1, help="of a topic created without a number")
    parser.add_argument(
        "--offsets-retention-minutes", type=int, default=7 * 24 * 60, help="after a group's last member"
    )
    parser.add_argument("--transactional-id-expiration-ms", type=int, default=7 * 86_400_000, help="without a use")
    parser.add_argument("--repair", action="store_true", help="cut out what is damaged, say what is lost, and end")
    _security_options(parser.add_argument_group("security", "beyond loopback, TLS or SASL or --insecure is needed"))
    parser.add_argument("--child", type=int, metavar="LOCK", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def _formatter(prog: str) -> argparse.HelpFormatter:
    return argparse.HelpFormatter(prog, width=100)  # one that is not given is looked up with shutil: 15 ms of the start


def _security_options(group: "argparse._ArgumentGroup") -> None:
    group.add_argument("--tls-cert", type=Path, metavar="PEM", help="the server's certificate and its chain")
    group.add_argument("--tls-key", type=Path, metavar="PEM", help="its private key, where it is not beside it")
    group.add_argument(
        "--tls-client-ca", type=Path, metavar="PEM", help="authorities of the certificates clients must show"
    )
    group.add_argument("--sasl", metavar="MECHANISMS", help="SCRAM-SHA-512, SCRAM-SHA-256, PLAIN; commas between")
    group.add_argument("--users", type=Path, metavar="FILE", help="the users; default: users.json in the data folder")
    group.add_argument("--insecure", action="store_true", help="listen beyond this machine, to anyone")


def _hold_folder(options: argparse.Namespace, held: contextlib.ExitStack) -> None:
    """The folder is ours while we live. A parent that started us has locked it, and handed us the lock."""
    if options.child:
        os.set_inheritable(options.child, False)  # not to a compaction, which may outlive us for a moment
        sign(options.child)
        return
    folder = DataFolder(options.data.absolute())
    held.callback(folder.release)
    sign(folder.lock)


def _repair(data: Path) -> None:
    from penstock.deploy.broker.log.repair import repair

    done = False
    for line in repair(data):
        done = True
        _say(line)
    if not done:
        _say("nothing is damaged")


def _run(options: argparse.Namespace) -> None:
    gc.disable()  # until it is ready: a start leaves little behind
    try:
        import uvloop
    except ImportError:
        asyncio.run(_serve(options))
    else:
        uvloop.run(_serve(options))


async def _serve(options: argparse.Namespace) -> None:
    data = options.data.absolute()
    listener = _listener(options, data)
    listening = await _bound(listener.address, VACATED_SECONDS if options.child is not None else 0.0)
    port = listening.getsockname()[1]
    host, told = listener.clients_find(port)
    broker = Broker(
        Settings(
            data,
            host,
            told,
            options.fsync,
            options.expire_on_disconnect,
            options.auto_create,
            options.partitions,
            listener.protocol,
            listener.sasl,
            options.offsets_retention_minutes * 60_000,
            options.transactional_id_expiration_ms,
        )
    )
    loop = asyncio.get_running_loop()
    tls: dict[str, Any] = {}
    if listener.tls is not None:
        tls = {"ssl": listener.tls, "ssl_handshake_timeout": HANDSHAKE_SECONDS}
        tls["ssl_shutdown_timeout"] = SHUTDOWN_SECONDS
    server = await loop.create_server(broker.connection, sock=listening, backlog=_BACKLOG, **tls)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if options.child:
        _watch_parent(loop, stop)
    gc.freeze()  # what is there now stays
    gc.enable()
    _tell(listener, port, data)
    _say(f"ready {broker.node.address}")
    await stop.wait()
    server.close()
    await broker.close()


def _listener(options: argparse.Namespace, data: Path) -> Listener:
    wanted = {name: getattr(options, name) for name in Wanted.__dataclass_fields__}
    return Listener.of(Wanted(**wanted), data)


async def _bound(address: Address, patience: float) -> socket.socket:
    """A socket there. One that is taken is asked for again for so many seconds."""
    deadline = time.monotonic() + patience
    while True:
        try:
            return bind(*address)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or time.monotonic() >= deadline:
                raise _Refused(f"cannot listen on {address_text(*address)}: {error.strerror or error}") from error
        await asyncio.sleep(0.05)


def _tell(listener: Listener, port: int, data: Path) -> None:
    """What protects the listener, in the log, whatever it is."""
    log.info("listening on %s: %s", address_text(listener.address[0], port), listener.protection)
    for warning in listener.warnings:
        log.warning("%s", warning)
    if listener.sasl is None and users_file(data).exists():
        log.warning("%s is there, and without --sasl nobody is asked who they are", users_file(data))


def _say(line: str) -> None:
    """To whoever started us; a parent waits for this line."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _watch_parent(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    """Our standard input is a pipe that only the parent has the other end of: it ends when the parent does."""

    def readable() -> None:
        if not os.read(0, 1024):
            loop.remove_reader(0)
            stop.set()

    loop.add_reader(0, readable)


if __name__ == "__main__":
    main()
