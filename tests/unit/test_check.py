"""`check` finds every kind of problem, at the line of its declaration, with what to do; and all of them at once."""

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from penstock.pipelines import Pipeline, Problem, TopologyDriver, TopologyError, check
from penstock.pipelines.compiling import compile_group
from penstock.pipelines.describing import describe, mermaid, text
from tests.unit.broken import PREAMBLE, SNIPPETS, assert_told, expected

REPOSITORY = Path(__file__).parents[2]
EVERYTHING = PREAMBLE + "".join(SNIPPETS.values())


def declare(source: str, path: Path) -> Pipeline:
    """The pipeline of a module's source."""
    module = ModuleType("declared_by_test")
    exec(compile(source, str(path), "exec"), vars(module))
    pipeline: Pipeline = vars(module)["pipeline"]
    return pipeline


def told(problems: tuple[Problem, ...], path: Path) -> list[tuple[int, str, str]]:
    assert {problem.location.file for problem in problems} <= {str(path)}
    return [(problem.location.line, problem.rule, str(problem)) for problem in problems]


@pytest.mark.parametrize("name", SNIPPETS)
def test_each_kind_of_problem(name: str, tmp_path: Path) -> None:
    source, path = PREAMBLE + SNIPPETS[name], tmp_path / "module.py"
    pipeline = declare(source, path)
    assert len(expected(source)) > 1
    assert_told(told(check(pipeline.topology), path), source)
    with pytest.raises(TopologyError, match=r"pipeline 'shop' has \d+ problems:") as error:
        TopologyDriver(pipeline)
    assert error.value.problems == check(pipeline.topology)
    with pytest.raises(TopologyError, match="shop"):
        compile_group(pipeline.topology, pipeline.groups[0].name)


def test_a_pipeline_without_groups(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    (problem,) = check(declare("from penstock.pipelines import Pipeline\npipeline = Pipeline('x')\n", path).topology)
    assert str(problem) == (f"{path}:2: x: the pipeline has no groups. Declare one with pipeline.group(NAME) [group]")


def test_a_pipelines_own_name(tmp_path: Path) -> None:
    source = PREAMBLE.replace('"shop"', '"My Shop"') + "pipeline.group('g').stream(bids).filter(item)\n"
    (problem,) = check(declare(source, tmp_path / "module.py").topology)
    assert (problem.rule, problem.node) == ("name", "My Shop")
    assert PREAMBLE.splitlines()[problem.location.line - 1].startswith("pipeline = Pipeline(")


def test_a_right_pipeline_has_no_problems(tmp_path: Path) -> None:
    source = PREAMBLE + "pipeline.group('g').stream(bids).group_by('by-item', item).filter(bool)\n"
    assert check(declare(source, tmp_path / "module.py").topology) == ()


def test_problems_come_in_the_order_of_their_lines_each_once(tmp_path: Path) -> None:
    problems = check(declare(EVERYTHING, tmp_path / "module.py").topology)
    assert len(problems) == len(set(problems)) == len(expected(EVERYTHING))
    lines = [problem.location.line for problem in problems]
    assert lines == sorted(lines)
    assert {problem.rule for problem in problems} == {
        *("group", "name", "duplicate-name", "topic", "codec", "unknown-field", "type", "co-partition", "cycle"),
        *("table", "retraction", "dead-letters"),
        "function",
        "time",
    }


def test_a_broken_pipeline_can_be_drawn(tmp_path: Path) -> None:
    description = describe(declare(EVERYTHING, tmp_path / "module.py").topology)
    assert "group cycle-through" in text(description)
    assert mermaid(description).startswith("flowchart LR")
    assert json.loads(description.json())["pipeline"] == "shop"


# ---- the command


def penstock(*arguments: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "penstock.deploy.cli", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=200, check=False)


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """A folder with the module of all problems."""
    (tmp_path / "broken.py").write_text(EVERYTHING)
    return tmp_path


def test_the_command_lists_every_problem_at_once(broken: Path) -> None:
    done = penstock("check", "broken.py", cwd=broken)
    assert done.returncode == 1
    found = []
    for line in done.stdout.splitlines():
        place, _, rest = line.partition(": ")
        assert place.startswith("broken.py:")
        found.append((int(place.removeprefix("broken.py:")), rest.rsplit("[", 1)[1][:-1], rest))
    assert_told(found, EVERYTHING)
    assert done.stderr == f"{len(found)} problems in pipeline 'shop'\n"


def test_the_command_as_json(broken: Path) -> None:
    done = penstock("check", "broken:pipeline", "--json", cwd=broken)
    assert done.returncode == 1
    rows = json.loads(done.stdout)
    assert {row["file"] for row in rows} == {str(broken / "broken.py")}
    assert_told(
        [(r["line"], r["rule"], f"{r['what']}. {r['advice'][:1].upper()}{r['advice'][1:]}") for r in rows], EVERYTHING
    )
    assert done.stderr == ""


def test_the_command_is_content_with_the_flights() -> None:
    done = penstock("check", "examples.flights.pipeline", cwd=REPOSITORY)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("pipeline 'flights' is right: 5 groups, ")
    as_json = penstock("check", "examples/flights/pipeline.py", "--json", cwd=REPOSITORY)
    assert (as_json.returncode, json.loads(as_json.stdout)) == (0, [])


def test_other_commands_refuse_a_broken_pipeline(broken: Path) -> None:
    done = penstock("worker", "broken.py", "--group", "named", "--broker", "127.0.0.1:1", cwd=broken)
    assert done.returncode == 1
    assert f"error: pipeline 'shop' has {len(expected(EVERYTHING))} problems:" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_command_draws(broken: Path) -> None:
    assert penstock("graph", "broken.py", cwd=broken).stdout.startswith("pipeline shop  [")
    drawn = penstock("graph", "examples.flights.pipeline", "--format", "mermaid", cwd=REPOSITORY)
    assert (drawn.returncode, drawn.stdout.splitlines()[0]) == (0, "flowchart LR")
    as_json = penstock("graph", "examples.flights.pipeline", "--format", "json", cwd=REPOSITORY)
    assert json.loads(as_json.stdout)["pipeline"] == "flights"


def test_policies_for_failing_records_are_told(tmp_path: Path) -> None:
    lines = "failing = pipeline.group('failing', errors=DeadLetter()).stream(bids).filter(item)\n"
    (tmp_path / "right.py").write_text(PREAMBLE + lines + "failing.on_error(Retry(2)).filter(bool)\n")
    done = penstock("check", "right.py", cwd=tmp_path)
    assert done.returncode == 0
    told = "dead letter to 'shop.failing-dead-letters'; retry 2 x from 0.05 s, then fail"
    assert f"records that fail in shop.failing: {told}\n" in done.stdout
