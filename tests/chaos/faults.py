"""What befalls workers and brokers: each fault begins, lasts, and is over before the next one."""

import asyncio
import contextlib
import os
import random
import signal
from collections.abc import Awaitable, Callable

from tests.chaos.brokers import Brokers
from tests.chaos.workers import Workers

SESSION = 10.0
"""Seconds after which the group goes on without a member that says nothing."""

Fault = Callable[[random.Random, Workers, Brokers], Awaitable[str | None]]
"""What was done; None where there was nothing to do it to."""


async def kill(rng: random.Random, workers: Workers, brokers: Brokers) -> str:
    """kill -9 of a worker; its supervisor starts it again."""
    name, pid = await workers.one(rng)
    _signal(pid, signal.SIGKILL)
    return f"kill -9 {name}"


async def freeze(rng: random.Random, workers: Workers, brokers: Brokers) -> str:
    """A worker that stands still, for less than a session."""
    return await _frozen(workers, rng, rng.uniform(0.2, 4.0))


async def zombie(rng: random.Random, workers: Workers, brokers: Brokers) -> str:
    """A worker that stands still for so long that others have its partitions when it goes on."""
    return await _frozen(workers, rng, SESSION + rng.uniform(2.0, 4.0))


async def _frozen(workers: Workers, rng: random.Random, seconds: float) -> str:
    name, pid = await workers.one(rng)
    _signal(pid, signal.SIGSTOP)
    try:
        await asyncio.sleep(seconds)
    finally:
        _signal(pid, signal.SIGCONT)
    return f"froze {name} for {seconds:.1f} s"


async def join(rng: random.Random, workers: Workers, brokers: Brokers) -> str | None:
    """One more worker, where there is a slot."""
    joined = workers.join(rng.choice(workers.groups))
    return joined and f"joined {joined}"


async def leave(rng: random.Random, workers: Workers, brokers: Brokers) -> str | None:
    """A worker is stopped in order, where another one is left."""
    left = await workers.leave(rng.choice(workers.groups), rng)
    return left and f"left {left}"


async def broker_kill(rng: random.Random, workers: Workers, brokers: Brokers) -> str:
    """kill -9 of a broker; it comes back."""
    node = brokers.kill(rng)
    seconds = rng.uniform(0.0, 3.0)
    await asyncio.sleep(seconds)
    await asyncio.to_thread(node.start)
    return f"kill -9 of a broker, away for {seconds:.1f} s"


async def broker_freeze(rng: random.Random, workers: Workers, brokers: Brokers) -> str:
    """A broker that stands still: a sink that takes nothing, a source that gives nothing."""
    pid, seconds = brokers.freeze(rng), rng.uniform(0.2, 4.0)
    try:
        await asyncio.sleep(seconds)
    finally:
        _signal(pid, signal.SIGCONT)
    return f"froze a broker for {seconds:.1f} s"


async def cut(rng: random.Random, workers: Workers, brokers: Brokers) -> str:
    """The network is gone for a while: connections end in the middle of a request."""
    seconds = rng.uniform(0.1, 4.0)
    brokers.proxy.cut()
    await asyncio.sleep(seconds)
    brokers.proxy.heal()
    return f"cut the network for {seconds:.1f} s"


async def slow(rng: random.Random, workers: Workers, brokers: Brokers) -> str:
    """The network is slow: acknowledgements of the sink come late."""
    seconds = rng.uniform(1.0, 4.0)
    brokers.proxy.slow(0.15)
    await asyncio.sleep(seconds)
    brokers.proxy.heal()
    return f"slowed the network for {seconds:.1f} s"


async def full_disk(rng: random.Random, workers: Workers, brokers: Brokers) -> str:
    """No room where the tables lie; there is some again later."""
    seconds = rng.uniform(0.5, 3.0)
    with workers.disk_filled():
        await asyncio.sleep(seconds)
    return f"filled the workers' disk for {seconds:.1f} s"


FAULTS: dict[str, Fault] = {
    "kill": kill,
    "freeze": freeze,
    "zombie": zombie,
    "join": join,
    "leave": leave,
    "broker-kill": broker_kill,
    "broker-freeze": broker_freeze,
    "cut": cut,
    "slow": slow,
    "full-disk": full_disk,
}
OF_WORKERS = ("kill", "kill", "freeze", "join", "leave")


def schedule(rng: random.Random, count: int, brokers: Brokers, *, disk: bool) -> list[str]:
    """So many faults in a random order, a zombie in every tenth."""
    return ["zombie" if number % 10 == 5 else rng.choice(kinds(brokers, disk=disk)) for number in range(count)]


def kinds(brokers: Brokers, *, disk: bool) -> list[str]:
    """What may befall them, zombies apart."""
    return [*OF_WORKERS, *brokers.faults, *(["full-disk"] if disk else [])]


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):  # it has ended by itself: it said why in its log
        os.kill(pid, number)
