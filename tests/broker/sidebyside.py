"""Golden cases of every operator side by side: one group, topics of its own for each pipeline, all its cases in them.

What a case's results may depend on stays apart: keys begin with the case's name, and where event time counts each case
has a partition to itself, since stream time is a partition's.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

from penstock.agents.partitioner import Partitioner
from penstock.pipelines import FOREVER, Pipeline, Topic, Windowed
from tests.golden.cases import Case, Input, Output, cases, stems
from tests.golden.operators import DECLARED, out_of
from tests.golden.rounds import rounds
from tests.golden.scope import Scope, topics_of
from tests.golden.window_pipelines import KINDS

PARTITIONS = 3
ROUNDS = 16
"""Cases that need more are left to the test driver."""

TIMED = {*KINDS, "stream_stream", "as_of"}
"""Operators whose cases need a partition each."""

APART = {*TIMED, "rekeyed", "regrouped"}
"""Operators whose cases stay on one partition: these take records of all keys in the order of their arrival."""

GROUPED = {"stream_global", "foreign_key", "regrouped", "rekeyed"}
"""Operators whose values are GROUP:NUMBER, where GROUP is a key."""

Row = tuple[Any, int]
"""Value and timestamp."""

Raw = tuple[str, int, bytes | None, bytes | None, int]
"""Topic, partition, key, value, timestamp."""


@dataclass
class Line:
    """Cases of an operator that have the same parameters, for each mode, and their topics.

    Attributes:
        cases: by mode; all modes have the same inputs.
        topics: of the inputs.
        outs: of each mode's results.
    """

    cases: dict[str, list[Case]]
    topics: dict[str, Topic[Any, Any]]
    outs: dict[str, Topic[Any, Any]]

    @property
    def operator(self) -> str:
        """That of all its cases."""
        return self.inputs[0].operator

    @property
    def inputs(self) -> list[Case]:
        """The cases of one mode."""
        return next(iter(self.cases.values()))

    def sent(self, number: int, case: Case, given: Input) -> Raw:
        """A record of the case with this number, as it goes to its topic."""
        topic = self.topics[given.topic]
        key = None if given.key is None else topic.key_serde.encode(f"{case.name}/{given.key}")
        value = told(case, given.value)
        if case.operator in APART:
            partition = number % PARTITIONS
        else:
            partition = 0 if key is None else Partitioner(PARTITIONS).of((key,))[0]
        raw = None if value is None else topic.value_serde.encode(value)
        return topic.name, partition, key, raw, given.timestamp

    def result(self, case: Case, output: Output) -> tuple[Any, Row]:
        """Key and row of a result as it is to come out."""
        key: Any = None if output.key is None else f"{case.name}/{output.key}"
        if output.start is not None:
            key = Windowed(key, output.start, output.end)
        return key, (told(case, output.value), output.timestamp)


def told(case: Case, value: Any) -> Any:
    """A value of a case as it is among others': groups are keys, and begin with the case's name as those do."""
    if isinstance(value, list):
        return [told(case, each) for each in value]
    if case.operator not in GROUPED or not isinstance(value, str):
        return value
    return ",".join(f"{case.name}/{each}" if each.find(":") > 0 else each for each in value.split(","))


def chosen() -> Iterator[dict[str, list[Case]]]:
    """The cases of each line, by mode: those that need no more than ROUNDS and have the same parameters and inputs. Of
    operators with event time there is the line that has the most cases; one of tumbling windows that counts; and two
    of `as_of`, one that waits and one that does not."""
    for operator in DECLARED:
        clean = {stem.removeprefix("clean_") for stem in stems() if stem.startswith("clean_")}
        lines: dict[str, dict[str, list[Case]]] = {}
        for stem in stems():
            if stem.removeprefix("clean_").rpartition("_")[0] == operator and stem not in clean:
                for params, some in _by_params(cases(stem)).items():
                    of_mode = lines.setdefault(params + repr([case.inputs for case in some]), {})
                    of_mode[some[0].mode] = some
        most = sorted(lines.values(), key=lambda line: -len(next(iter(line.values()))))
        if operator in KINDS:
            counting = [line for line in most if next(iter(line.values()))[0].params["aggregate"] == "count"]
            most = [*most[:1], *counting[: operator == "tumbling"]]
        elif operator in TIMED:
            most = most[: 1 + (operator == "as_of")]
        for line in most:
            yield {mode: longest(some) if operator in TIMED else some for mode, some in line.items()}


def longest(some: list[Case]) -> list[Case]:
    """As many cases as there are partitions: those with the most inputs."""
    return sorted(some, key=lambda case: -len(case.inputs))[:PARTITIONS]


def _by_params(some: tuple[Case, ...]) -> dict[str, list[Case]]:
    found: dict[str, list[Case]] = {}
    for case in some:
        if len(rounds(case)) <= ROUNDS:
            found.setdefault(repr(sorted(case.params.items())), []).append(case)
    return found


class SideBySide:
    """The pipeline and its lines.

    Args:
        prefix: its name.
    """

    def __init__(self, prefix: str) -> None:
        self.pipeline, self.lines = Pipeline(prefix), []
        group = self.pipeline.group("g")
        for number, of_mode in enumerate(chosen()):
            (case, *_), *_ = of_mode.values()
            name = f"{case.operator.replace('_', '-')}-{number}"
            topics = topics_of(case.operator, f"{prefix}-{name}-", partitions=PARTITIONS, retention=FOREVER)
            outs = {
                mode: out_of(some[0], f"{prefix}-{name}-{mode}-out", partitions=1, retention=FOREVER)
                for mode, some in of_mode.items()
            }
            for mode, (first, *_) in of_mode.items():
                DECLARED[case.operator](Scope(group, topics, f"{name}-{mode}-"), first).to(outs[mode])
            self.lines.append(Line(of_mode, topics, outs))

    def topics(self) -> list[Topic[Any, Any]]:
        """Those of all inputs and results."""
        return [topic for line in self.lines for topic in (*line.topics.values(), *line.outs.values())]

    def rounds(self) -> list[list[Raw]]:
        """The records of all cases, in rounds."""
        of_cases = [
            [[line.sent(number, case, given) for given in each] for each in rounds(case)]
            for line in self.lines
            for number, case in enumerate(line.inputs)
        ]
        return [[*chain(*together)] for together in zip_longest(*of_cases, fillvalue=[])]

    def module(self, folder: Path, first: str = "") -> str:
        """Write a module that declares this pipeline; its path, for workers.

        Args:
            folder: where to.
            first: a line of code that runs before.
        """
        path = folder / f"pipeline_{self.pipeline.name}.py"
        declared = f"pipeline = SideBySide({self.pipeline.name!r}).pipeline\n"
        path.write_text(f"{first}\nfrom tests.broker.sidebyside import SideBySide\n\n{declared}")
        return str(path)
