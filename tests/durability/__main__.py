"""``python -m tests.durability --kills 100``: kill -9 under load, and what is there afterwards."""

import argparse
import secrets
import sys
import tempfile
import time
from pathlib import Path

from tests.durability.campaign import Campaign
from tests.durability.faults import BREAKS


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.durability", description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6), help="repeats what kills when")
    parser.add_argument("--fsync", default="system")
    parser.add_argument("--break", dest="broken", choices=BREAKS, help="break a promise: the checks must notice")
    options = parser.parse_args()
    sys.stdout.write(f"seed {options.seed}\n")
    sys.stdout.flush()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="penstock-durability-") as folder:
        campaign = Campaign(Path(folder), options.seed, fsync=options.fsync, broken=options.broken)
        report = campaign.run(options.kills)
    for problem in report.problems[:50]:
        sys.stdout.write(f"  {problem}\n")
    sys.stdout.write(f"{report}; {time.monotonic() - began:.0f} s\n")
    sys.exit(bool(report.problems))


if __name__ == "__main__":
    main()
