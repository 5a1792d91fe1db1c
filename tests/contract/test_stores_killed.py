"""Stores on disk beside other processes: one that holds them, and what is there of one that was killed."""

import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from penstock.tables.rocksdb import RocksStores
from penstock.tables.store import StoreLocked

WRITER = """
import sys
from pathlib import Path
from penstock.tables.rocksdb import RocksStores
store = RocksStores(Path(sys.argv[1])).open("planes", 0)
for i in range(1, 10**9):
    store.write([(b"%d" % (j % 97), b"%d" % i) for j in range(i, i + 40)] + [(b"%d" % (i * 7 % 97), None)], i)
    print(i, flush=True)
    if i == 300 and sys.argv[2] == "hold":
        sys.stdin.read()
        break
"""


def written_by(writes: int) -> dict[bytes, bytes]:
    rows: dict[bytes, bytes] = {}
    for i in range(1, writes + 1):
        rows |= {b"%d" % (j % 97): b"%d" % i for j in range(i, i + 40)}
        rows.pop(b"%d" % (i * 7 % 97), None)
    return rows


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Callable[[str], "subprocess.Popen[str]"]]:
    """Starts a process that writes to a store in tmp_path; returns once it has written 300 times."""
    started = []

    def start(mode: str) -> "subprocess.Popen[str]":
        command = [sys.executable, "-c", WRITER, str(tmp_path), mode]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None
        for line in process.stdout:
            if line == "300\n":
                return process
        raise AssertionError("the writer died")

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_the_holder_of_a_store_is_named(writer: Callable[[str], Any], tmp_path: Path) -> None:
    process = writer("hold")
    with pytest.raises(StoreLocked) as caught:
        RocksStores(tmp_path).open("planes", 0)
    assert str(tmp_path / "planes-0") in str(caught.value)
    assert caught.value.pid in (process.pid, None)  # None: not every kernel tells
    process.communicate("")
    RocksStores(tmp_path).open("planes", 0).close()


def test_rows_and_position_survive_a_kill_together(writer: Callable[[str], Any], tmp_path: Path) -> None:
    process = writer("run")
    process.send_signal(signal.SIGKILL)
    seen = [line for line in process.communicate()[0].split("\n") if line]
    store = RocksStores(tmp_path).open("planes", 0)
    assert store.position >= int(seen[-1] if seen else 300)
    assert dict(store.scan()) == written_by(store.position)
    store.close()


LOADER = """
import os
from pathlib import Path
import sys
from penstock.tables.rocksdb import RocksStores
store = RocksStores(Path(sys.argv[1])).open("planes", 0)
store.write([(b"gone", b"0")], 1)
for i in range(2, 102):
    store.load([(b"%06d" % j, b"%d" % i) for j in range(i * 200)] + [(b"gone", None)], i)
if sys.argv[2] == "settled":
    store.settle()
if sys.argv[2] == "written":
    store.write([(b"last", b"1")], 200)
os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("last", ["loaded", "settled", "written"])
def test_what_was_loaded_before_a_kill(tmp_path: Path, last: str) -> None:
    """Some earlier load as a whole; all of them once settled, which a write does first."""
    done = subprocess.run([sys.executable, "-c", LOADER, str(tmp_path), last], timeout=250, check=False)
    assert done.returncode == -signal.SIGKILL
    store = RocksStores(tmp_path).open("planes", 0)
    rows, position = dict(store.scan()), store.position
    if last != "loaded":
        assert position == (101 if last == "settled" else 200)
    loads = min(position, 101)
    wanted = {b"%06d" % j: b"%d" % loads for j in range(loads * 200)} if loads > 1 else {b"gone": b"0"}
    assert rows == {**wanted, **({b"last": b"1"} if last == "written" else {})}
    store.close()


FILLER = """
import sys
from pathlib import Path
from penstock.tables import rocks_load, rocksdb
from penstock.tables.rocksdb import RocksStores
rocksdb.MANY = rocks_load.GATHERED_BYTES = 1
store = RocksStores(Path(sys.argv[1])).open("planes", 0)
for i in range(store.position, int(sys.argv[2])):
    print(i, flush=True)
    changes = [(b"%03d" % (j % 700), None if j % 11 == 0 else b"%d" % i) for j in range(i * 50, i * 50 + 50)]
    store.load(changes, i + 1, changes)
store.close()
"""


def filled(position: int) -> dict[bytes, bytes | None]:
    """The rows after so many loads, deleted ones too."""
    return {b"%03d" % (j % 700): None if j % 11 == 0 else b"%d" % (j // 50) for j in range(position * 50)}


def test_a_store_that_was_killed_while_it_took_files_is_filled_to_the_same_end(tmp_path: Path) -> None:
    """Wherever that was: rows are those of its position or newer ones, and loading again from there mends it."""
    rng = random.Random(11)
    position = 0
    for loads in [*(rng.randrange(20, 100) for _ in range(6)), None]:
        end = position + 50 if loads is None else 10**9  # one that is to be killed does not end by itself
        command = [sys.executable, "-c", FILLER, str(tmp_path), str(end)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        begun = 0
        for line in process.stdout:
            begun = int(line)
            if loads is not None and begun == position + loads:
                process.kill()
        assert process.wait(60) == (0 if loads is None else -signal.SIGKILL)
        store = RocksStores(tmp_path).open("planes", 0)
        position = store.position
        assert position in ((end,) if loads is None else (begun, begun + 1))
        was, newest = filled(position), filled(begun + 1)
        for found in (dict(store.scan()), dict(store.scan_marks())):
            assert found.keys() <= newest.keys() | was.keys()
            for key in newest:
                assert found.get(key) in (was.get(key), newest[key])
        assert loads is not None or dict(store.scan()) == {k: v for k, v in filled(end).items() if v is not None}
        store.close()
