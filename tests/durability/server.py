"""The broker with faults, as a server that is started and killed like the real one."""

import random
import subprocess

from penstock.deploy.broker import BrokerServer, BrokerUnavailable


class FaultyServer(BrokerServer):
    """A `BrokerServer` whose process runs `tests.durability.faults`."""

    def with_faults(self, *faults: str) -> None:
        """From the next start on."""
        self._program = ["-m", "tests.durability.faults", *faults, "--"]

    def start_again(self, rng: random.Random, faults: list[str], *, deadly: bool, dies_in: str | None = None) -> int:
        """Start, with a death at a random system call where `deadly`, or after a write to such a file.

        Returns how often it died before it was ready.
        """
        deaths = 0
        while True:
            fatal = ["--kill-at", str(int(rng.expovariate(1 / 60)) + 1)] if deadly else []
            if fatal and dies_in:
                fatal += ["--after", "--kill-in", dies_in]
            elif fatal and rng.random() < 0.5:
                fatal.append("--after")
            self.with_faults(*faults, *fatal)
            try:
                self.start()
            except BrokerUnavailable as problem:
                if "ended while it started" not in str(problem) or not deadly or deaths > 20:
                    raise
                deaths += 1
            else:
                return deaths

    def wait(self, seconds: float) -> bool:
        """Until it ends by itself; False where it did not in time."""
        assert self._process is not None
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True
