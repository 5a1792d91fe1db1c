"""The golden cases: what goes into an operator, and what must come out of it, input by input.

``cases("tumbling_update")`` reads one file of Kafka Streams' answers, ``cases("clean_stream_stream_left")`` one of the
clean rules'; README.md describes operators, parameters and the files.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).with_name("expected")

Value = int | str | list[Any] | None
"""A number, a text, null; out of a join a list of two of them."""


@dataclass(frozen=True)
class Input:
    """One record that goes in.

    Attributes:
        topic: ``in`` of operators with one input, else ``left``, ``right``, ``stream``, ``table``.
        timestamp: event time, ms.
    """

    topic: str
    key: str | None
    value: Value
    timestamp: int


@dataclass(frozen=True)
class Output:
    """One record that comes out.

    Attributes:
        timestamp: event time, ms.
        start: the window's start, ms; None where the operator has no windows.
        end: the window's end, ms, as Kafka Streams gives it: exclusive for tumbling and hopping, inclusive for
            sliding and session.
        cause: the index of the input on which it came out.
    """

    key: str | None
    value: Value
    timestamp: int
    start: int | None = None
    end: int | None = None
    cause: int = field(default=-1, kw_only=True)


@dataclass(frozen=True)
class Case:
    """Inputs in the order of their arrival, and the results in the order in which they came out.

    Attributes:
        operator: such as ``tumbling``.
        mode: what of it: ``count``, ``update``, ``inner``...
        name: unique among the operator's cases.
        params: durations in ms, and ``aggregate``.
        inputs: all go through one partition.
    """

    operator: str
    mode: str
    name: str
    params: Mapping[str, Any]
    inputs: tuple[Input, ...]
    outputs: tuple[Output, ...] = ()

    def __str__(self) -> str:
        return f"{self.operator}-{self.mode}-{self.name}"

    def by_input(self) -> list[list[Output]]:
        """The results of each input."""
        found: list[list[Output]] = [[] for _ in self.inputs]
        for output in self.outputs:
            found[output.cause].append(output)
        return found

    def by_key(self) -> dict[str | None, list[Output]]:
        """The results of each key, in order: what stays the same over several partitions."""
        found: dict[str | None, list[Output]] = defaultdict(list)
        for output in self.outputs:
            found[output.key].append(output)
        return dict(found)

    def with_outputs(self, by_input: Iterable[Iterable[Sequence[Any]]]) -> "Case":
        """The same with other results: for each input rows of key, value, timestamp, and of windows start and end."""
        rows = [list(rows) for rows in by_input]
        if len(rows) != len(self.inputs):
            raise ValueError(f"{self}: results of {len(rows)} inputs for {len(self.inputs)}")
        outputs = tuple(Output(*row, cause=cause) for cause, each in enumerate(rows) for row in each)
        return replace(self, outputs=outputs)


@cache
def cases(stem: str) -> tuple[Case, ...]:
    """All cases of a file, such as ``session_final``, in its order."""
    read = json.loads((FOLDER / f"{stem}.json").read_text(encoding="utf-8"))
    found = []
    for case in read["cases"]:
        inputs = tuple(Input(*record["in"]) for record in case["records"])
        bare = Case(read["operator"], read["mode"], case["name"], case["params"], inputs)
        found.append(bare.with_outputs(record.get("out", ()) for record in case["records"]))
    return tuple(found)


def stems() -> list[str]:
    """The names of all files, without ``.json``."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def text(some: Sequence[Case]) -> str:
    """Cases of one operator and mode as the text of a file: a line for each input, with what came out on it."""
    operator, mode = {(case.operator, case.mode) for case in some}.pop()
    written = []
    for case in some:
        records = []
        for given, results in zip(case.inputs, case.by_input(), strict=True):
            record: dict[str, Any] = {"in": [given.topic, given.key, given.value, given.timestamp]}
            if results:
                record["out"] = [_row(result) for result in results]
            records.append("     " + _json(record))
        head = f'"name": {_json(case.name)}, "params": {_json(dict(case.params))}'
        written.append(f'   {{{head}, "records": [\n' + ",\n".join(records) + "]}")
    return f'{{"operator": {_json(operator)}, "mode": {_json(mode)}, "cases": [\n' + ",\n".join(written) + "]}\n"


def _row(output: Output) -> list[Any]:
    row = [output.key, output.value, output.timestamp]
    return row if output.start is None else [*row, output.start, output.end]


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
