"""One worker process, `python -m penstock.deploy.worker MODULE GROUP`: `penstock worker` starts and supervises them."""

import argparse
import contextlib
import ctypes
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from penstock.agents.security import Security


def main(argv: list[str] | None = None, security: "Security | None" = None) -> int:
    """Run a worker until a signal or a failure. Exit codes: 0 stopped, 1 failed, 2 it could not be started or must not
    be started again."""
    arguments = _parser().parse_args(argv)
    if arguments.parent:
        die_with(arguments.parent)
    return run(arguments, security)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("penstock worker process")
    parser.add_argument("module")
    parser.add_argument("group")
    parser.add_argument("--broker")
    parser.add_argument("--data")
    parser.add_argument("--slot")
    parser.add_argument("--command-config")
    parser.add_argument("--loglevel", default="info")
    parser.add_argument("--parent", type=int, default=0)
    parser.add_argument("--ready-fd", type=int, default=-1)
    return parser


def run(arguments: Any, security: "Security | None" = None) -> int:
    """Load the pipeline and run the group's worker."""
    from penstock.agents.faust.app import run_worker
    from penstock.agents.security import Security
    from penstock.deploy.apps import faust_app
    from penstock.deploy.modules import load_pipeline
    from penstock.tables.errors import PenstockError

    try:
        app = faust_app(
            load_pipeline(arguments.module),
            arguments.group,
            broker=arguments.broker,
            data=arguments.data,
            slot=arguments.slot,
            security=Security.read(arguments.command_config) if arguments.command_config else security,
        )
    except PenstockError as exc:
        sys.stderr.write(f"error: {exc}\n")
        return 2
    if arguments.ready_fd >= 0:
        app.on_ready = lambda: _tell(arguments.ready_fd)
    return run_worker(app, loglevel=arguments.loglevel)


def _tell(descriptor: int) -> None:
    with contextlib.suppress(OSError):  # a supervisor that ended takes this process with it
        os.write(descriptor, b".")


def die_with(parent: int) -> None:
    """End this process when its parent does, however the parent ends (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:  # it ended before the line above
        os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
