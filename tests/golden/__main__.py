"""``python -m tests.golden``: write the golden files anew, from Kafka Streams."""

import sys
import time

from tests.golden import cases, engine
from tests.golden.written import files


def main() -> None:
    if reason := engine.STREAMS.missing():
        sys.exit(f"Kafka Streams cannot be asked: {reason}")
    began = time.monotonic()
    made = files()
    cases.FOLDER.mkdir(exist_ok=True)
    for left in cases.FOLDER.glob("*.json"):
        if left.name not in made:
            left.unlink()
    for name, text in made.items():
        (cases.FOLDER / name).write_text(text, encoding="utf-8")
    sys.stdout.write(f"{len(made)} files, {time.monotonic() - began:.0f} s\n")


if __name__ == "__main__":
    main()
