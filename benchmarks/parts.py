"""Where the time of a record goes: each part of the `stateless` workload's record path alone, over one poll's records.

    python -m benchmarks.parts [--records 5000] [--wire 5000] [--turns 30]

Nanoseconds of processor time a record, the median of the turns, parts in turns. They rank the parts: what is warm here
is not in a worker, and sockets, Faust and the checkpoint are not here at all.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

from aiokafka import TopicPartition

from benchmarks.backlog import Backlog
from benchmarks.records import PARTITIONS, Delay, Departure, has_departed, to_delay
from penstock.agents.block import Block
from penstock.agents.kafka.reading.unread import Unread
from penstock.agents.kafka.writing.rows import PlainRowBatch, RowBatch
from penstock.agents.native import native
from penstock.agents.partitioner import Partitioner
from penstock.tables.serdes import serde_of

LIMIT = 1 << 30
"""Bytes of a batch: all records are in one."""


def _new_batch() -> Any:
    return RowBatch(LIMIT, 0, True) if native is not None else PlainRowBatch(LIMIT, 0, is_transactional=True)


def _answer(columns: list[list[Any]], wire: int) -> memoryview:
    """What a broker sends of them, `wire` records to a wire batch."""
    answer = bytearray()
    for base in range(0, len(columns[0]), wire):
        batch = _new_batch()
        batch.extend(*(column[base : base + wire] for column in columns), None, None, 0)
        answer += base.to_bytes(8, "big") + bytes(batch._build())[8:]
    return memoryview(bytes(answer))


class Parts:
    """The parts, each with what it works on made beforehand. `calls`: name -> the part, over `size` records.

    Args:
        records: of one poll.
        wire: of a wire batch that comes.
    """

    def __init__(self, records: int, wire: int) -> None:
        rows = list(Backlog(records).records())
        self.size = len(rows)
        keys, values, stamps = ([row[column] for row in rows] for column in range(3))
        answer, tp = _answer([keys, values, stamps], wire), TopicPartition("flights", 0)
        source = Unread(tp, 0, answer, []).take(None)
        decode, encode = serde_of(Departure).decode, serde_of(Delay).encode
        decoded = Block(source, list(map(decode, values)))
        mask = list(map(has_departed, decoded.values))
        kept = decoded.where(mask)
        mapped = [to_delay(value) for value in kept.values]
        encoded, kept_keys, kept_stamps = list(map(encode, mapped)), kept.raw_keys(), kept.timestamps()
        partitioner = Partitioner(PARTITIONS)

        def written() -> None:
            for chosen in partitioner.rows(kept_keys):
                made = _new_batch()
                made.extend(kept_keys, encoded, kept_stamps, None, chosen, 0)
                made._build()

        self.calls: dict[str, Callable[[], object]] = {
            "wire batches, checksum, to columns": lambda: Unread(tp, 0, answer, []).take(None),
            "JSON to a Struct": lambda: list(map(decode, values)),
            "filter: the user's function": lambda: [has_departed(value) for value in decoded.values],
            "rows that stay": lambda: decoded.where(mask),
            "map: the user's function, an f-string and a Struct": lambda: [to_delay(value) for value in kept.values],
            "Struct to JSON": lambda: list(map(encode, mapped)),
            "keys and timestamps of the rows": lambda: (kept.raw_keys(), kept.timestamps()),
            "partition of each key, records to wire batches, checksum": written,
        }

    def measure(self, turns: int) -> dict[str, float]:
        """Nanoseconds a record of each part."""
        found: dict[str, list[float]] = {name: [] for name in self.calls}
        for turn in range(turns + 1):
            for name, call in self.calls.items():
                started = time.thread_time_ns()
                call()
                took = time.thread_time_ns() - started
                if turn:  # the first warms up
                    found[name].append(took / self.size)
        return {name: statistics.median(times) for name, times in found.items()}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Where the time of a record goes, part by part.")
    parser.add_argument("--records", type=int, default=5000, help="of one poll (default: 5000, a megabyte)")
    parser.add_argument("--wire", type=int, default=5000, help="of a wire batch that comes (default: 5000)")
    parser.add_argument("--turns", type=int, default=30, help="(default: 30)")
    given = parser.parse_args()
    found = Parts(given.records, given.wire).measure(given.turns)
    print("| part | ns a record |\n|---|---|")
    for name, ns in found.items():
        print(f"| {name} | {ns:.0f} |")
    print(f"| together | {sum(found.values()):.0f} |")


if __name__ == "__main__":
    main()
