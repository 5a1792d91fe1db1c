"""Campaigns against workers and brokers. Exit code 0: nothing was lost, doubled or wrong; a sabotage was seen."""

import argparse
import random
import shutil
import sys
import time
from pathlib import Path

from penstock.pipelines import Delivery
from tests.chaos import brokers, campaign
from tests.chaos.campaign import Campaign, Report


def main() -> int:
    """Run what the arguments say."""
    parser = argparse.ArgumentParser("python -m tests.chaos", description=__doc__)
    parser.add_argument("--brokers", choices=brokers.KINDS, action="append", help="may be repeated; default: all")
    parser.add_argument("--faults", type=int, default=300, help="of each campaign (default: %(default)s)")
    parser.add_argument("--seed", type=int, help="of the first campaign; default: a new one")
    parser.add_argument("--rate", type=int, default=2_000, help="records a second (default: %(default)s)")
    parser.add_argument("--at-least-once", action="store_true", help="the delivery of the group with tables")
    parser.add_argument("--sabotage", help="a promise that the workers break; the campaign must then see problems")
    parser.add_argument("--keep", type=Path, help="where to keep the workers' log of a campaign with problems")
    arguments = parser.parse_args()
    seed = arguments.seed if arguments.seed is not None else random.randrange(1_000_000)
    wrong = 0
    for number, kind in enumerate(arguments.brokers or brokers.KINDS):
        report = _one(arguments, kind, seed + number)
        _say(str(report))
        for problem in report.problems[:20]:
            _say(f"  {problem}")
        wrong += bool(report.problems) != bool(arguments.sabotage)
    return 1 if wrong else 0


def _one(arguments: argparse.Namespace, kind: str, seed: int) -> Report:
    _say(f"{kind}, seed {seed}")
    with campaign.temporary() as folder:
        delivery = Delivery.AT_LEAST_ONCE if arguments.at_least_once else Delivery.EXACTLY_ONCE
        faults, rate, sabotage = arguments.faults, arguments.rate, arguments.sabotage
        report = Campaign(kind, seed, faults, Path(folder), rate, sabotage, delivery=delivery, tell=_say).run()
        if report.problems and arguments.keep:
            arguments.keep.mkdir(parents=True, exist_ok=True)
            shutil.copy(Path(folder, "workers.log"), arguments.keep / f"{kind}-{seed}.log")
    return report


def _say(line: str) -> None:
    sys.stdout.write(f"{time.strftime('%H:%M:%S')} {line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
