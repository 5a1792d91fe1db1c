"""``python -m tests.fuzz TARGET SECONDS``: bytes that find new ways through a parser, made by atheris."""

import atexit
import shutil
import sys
import tempfile
from pathlib import Path

import atheris
from crc32c import crc32c

with atheris.instrument_imports(include=["penstock.deploy.broker"]):
    from tests.fuzz import targets


def seeds(folder: Path) -> None:
    """Something whole to begin with."""
    from tests.unit.broker.batching import batch

    for codec in range(5):
        (folder / f"batch{codec}").write_bytes(batch([(b"k", b"v" * 30)] * 3, codec=codec))
    body = batch([(b"k", b"v")] * 3)[61:]
    (folder / "records").write_bytes(b"\0\3" + body)
    frame = b"\x91\x92\xc4\1a\xc4\1b"
    (folder / "journal").write_bytes(b"PJ1\n" + len(frame).to_bytes(4) + crc32c(frame).to_bytes(4) + frame)
    (folder / "request").write_bytes(b"\x05\x01\0\0\0\7\0\0\0\1\0\0\0\0\1t")


def main() -> None:
    name, seconds = sys.argv[1], sys.argv[2]
    corpus = Path(tempfile.mkdtemp(prefix="penstock-corpus-"))
    atexit.register(shutil.rmtree, corpus, ignore_errors=True)
    atexit.register(shutil.rmtree, targets._FOLDER, ignore_errors=True)
    seeds(corpus)
    options = [
        f"-max_total_time={seconds}",
        "-timeout=10",
        "-rss_limit_mb=1500",
        "-max_len=4096",
        "-print_final_stats=1",
    ]
    atheris.Setup(
        [sys.argv[0], *options, f"-artifact_prefix={corpus.parent}/penstock-{name}-", str(corpus)],
        targets.TARGETS[name],
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main()
