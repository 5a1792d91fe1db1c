"""The journal: the last value of each key, whatever the file went through."""

import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from penstock.deploy.broker.log import Journal, JournalKey, LogDamaged, LogProblem


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "offsets.journal"


def contents(path: Path) -> dict[JournalKey, bytes]:
    journal = Journal(path)
    rows = dict(journal.items())
    journal.close()
    return rows


def test_keys_and_values(path: Path) -> None:
    rows: dict[JournalKey, bytes] = {
        b"": b"",
        b"a": b"1",
        ("a",): b"2",
        ("group", "topic", 3): b"\0\xff",
        ("group", "topic", -1): b"4",
        ("ü", None, b"\xff", 2**63 - 1): b"5",
        (): b"6",
    }
    journal = Journal(path)
    for key, value in rows.items():
        journal.append(key, b"first")
        journal.append(key, value)
    journal.append(("gone",), b"x")
    journal.append(("gone",), None)
    journal.append(("never",), None)
    assert (dict(journal.items()), len(journal), journal.get(b"a"), journal.get(("gone",))) == (rows, 7, b"1", None)
    journal.sync()
    journal.close()
    journal.close()
    assert contents(path) == rows


def test_against_a_dict_with_rewrites(path: Path) -> None:
    rng, rows, sizes = random.Random(1), {}, []
    journal = Journal(path)
    for _ in range(3000):
        items = [
            ((rng.choice("abc"), rng.randrange(40)), None if rng.random() < 0.2 else rng.randbytes(rng.randrange(3000)))
            for _ in range(rng.randrange(4))
        ]
        journal.append_all(items)
        rows.update(items)
        sizes.append(path.stat().st_size)
        if rng.random() < 0.01:
            journal.close()
            journal = Journal(path)
    kept = {key: value for key, value in rows.items() if value is not None}
    assert dict(journal.items()) == kept
    journal.close()
    assert contents(path) == kept
    assert max(sizes) < 2 << 20
    assert any(after < before for before, after in itertools.pairwise(sizes))


def test_torn_at_every_byte(tmp_path: Path, path: Path) -> None:
    journal = Journal(path)
    journal.append(b"a", b"1")
    size = path.stat().st_size
    journal.append_all([(b"a", b"2"), (b"b", b"3")])
    journal.close()
    full = path.stat().st_size
    for length in range(full):
        torn = tmp_path / "torn"
        shutil.copy(path, torn)
        os.truncate(torn, length)
        journal = Journal(torn)
        assert dict(journal.items()) == ({b"a": b"1"} if length >= size else {})
        assert journal.cut_bytes == (length - size if length >= size else max(length - 4, 0))
        journal.append(b"c", b"4")
        journal.close()
        assert contents(torn)[b"c"] == b"4"


def test_damage_before_whole_frames(path: Path) -> None:
    journal = Journal(path)
    for n in range(3):
        journal.append(b"%d" % n, b"value")
    journal.close()
    data = bytearray(path.read_bytes())
    data[15] ^= 1
    path.write_bytes(data)
    with pytest.raises(LogDamaged, match="damaged at byte 4: a broken frame before whole ones"):
        Journal(path)


def test_another_file(path: Path) -> None:
    path.write_bytes(b"something else")
    with pytest.raises(LogDamaged, match="no journal"):
        Journal(path)
    assert path.read_bytes() == b"something else"


def test_after_close(path: Path) -> None:
    journal = Journal(path)
    journal.close()
    with pytest.raises(LogProblem, match="closed"):
        journal.append(b"a", b"1")


WRITER = """
import sys
from pathlib import Path
from penstock.deploy.broker.log import Journal
journal = Journal(Path(sys.argv[1]))
n = int(journal.get(b"n") or 0)
while True:
    n += 1
    journal.append_all([(b"n", b"%d" % n), (("other", n % 50), b"%d" % n + b"x" * 5000)])
    print(n, flush=True)
"""


def test_kill_loses_nothing(path: Path) -> None:
    rng, acknowledged = random.Random(4), 0
    for _ in range(4):
        command = [sys.executable, "-c", WRITER, str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            for _ in range(rng.randrange(100, 600)):
                acknowledged = int(writer.stdout.readline())
            writer.send_signal(signal.SIGKILL)
            acknowledged = max([acknowledged, *(int(line) for line in writer.stdout if line.endswith("\n"))])
        rows = contents(path)
        n = int(rows[b"n"])
        assert n in (acknowledged, acknowledged + 1)
        assert all(rows["other", m % 50].startswith(b"%dx" % m) for m in range(max(n - 49, 1), n + 1))
