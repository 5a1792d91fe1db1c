"""The golden files are what the inputs' code and Kafka Streams make, and the loader reads what was written."""

import doctest
import re
from collections import Counter
from pathlib import Path

import pytest

from tests.golden import engine
from tests.golden.cases import FOLDER, Case, Output, cases, stems, text
from tests.golden.inputs import notation
from tests.golden.inputs.every import OPERATORS, questions
from tests.golden.written import clean

ROOT = Path(__file__).parents[2]
ASKED = [stem for stem in stems() if not stem.startswith("clean_")]


def test_every_operator_and_mode_has_its_file() -> None:
    assert sorted(f"{operator}_{mode}" for operator, (_, modes) in OPERATORS.items() for mode in modes) == ASKED


@pytest.mark.parametrize("stem", stems())
def test_what_is_read_is_what_was_written(stem: str) -> None:
    assert text(cases(stem)) == (FOLDER / f"{stem}.json").read_text(encoding="utf-8")


@pytest.mark.parametrize("stem", ASKED)
def test_the_inputs_are_those_that_are_declared(stem: str) -> None:
    declared = [(c.name, dict(c.params), c.inputs) for c in questions() if f"{c.operator}_{c.mode}" == stem]
    assert [(c.name, dict(c.params), c.inputs) for c in cases(stem)] == declared
    assert len(declared) >= 7
    assert len({name for name, _, _ in declared}) == len(declared)


def test_the_clean_cases_are_those_of_the_models() -> None:
    made = [case for stem in stems() if stem.startswith("clean_") for case in cases(stem)]
    assert sorted(clean(questions()), key=str) == sorted(made, key=str)
    assert {(case.operator, case.mode) for case in made} == {
        *(("stream_stream", mode) for mode in ("inner", "left", "outer")),
        *(("sliding", mode) for mode in ("update", "final")),
    }


def test_results_by_input_and_by_key() -> None:
    case = Case("tumbling", "update", "by-hand", {}, tuple(notation.given("a=1@5 b=2@6 a=3@7")))
    case = case.with_outputs([[["a", 1, 5, 0, 10]], [], [["b", 2, 6, 0, 10], ["a", 4, 7, 0, 10]]])
    one, other, last = (
        Output("a", 1, 5, 0, 10, cause=0),
        Output("b", 2, 6, 0, 10, cause=2),
        Output("a", 4, 7, 0, 10, cause=2),
    )
    assert case.outputs == (one, other, last)
    assert case.by_input() == [[one], [], [other, last]]
    assert case.by_key() == {"a": [one, last], "b": [other]}
    with pytest.raises(ValueError, match="results of 1 inputs for 3"):
        case.with_outputs([[]])


def test_the_notation_reads_as_its_docstring_says() -> None:
    result = doctest.testmod(notation)
    assert (result.attempted > 0, result.failed) == (True, 0)


def test_both_poms_name_one_kafka() -> None:
    kafka = re.search(r"<kafka\.version>([^<]+)<", (ROOT / "deploy/kafka/pom.xml").read_text())
    assert kafka is not None
    assert engine.STREAMS.jars.version() == kafka[1]


@pytest.mark.kafka
@pytest.mark.skipif(bool(engine.STREAMS.missing()), reason=engine.STREAMS.missing())
def test_kafka_streams_answers_so_today() -> None:
    """In memory for speed. The one thing that differs from RocksDB is the order between keys of closed sessions."""
    found = engine.answered(questions(), "memory")
    written = [
        case for operator, (_, modes) in OPERATORS.items() for mode in modes for case in cases(f"{operator}_{mode}")
    ]
    assert len(found) == len(written) > 500
    for one, other in zip(found, written, strict=True):
        assert (str(one), one.inputs) == (str(other), other.inputs)
        if (one.operator, one.mode) == ("session", "final"):
            assert one.by_key() == other.by_key(), str(one)
            assert [Counter(each) for each in one.by_input()] == [Counter(each) for each in other.by_input()], str(one)
        else:
            assert one.outputs == other.outputs, str(one)
