"""The code and the commands of docs/failures.md, as they stand there."""

import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import pytest

from penstock.agents.event_time.results import RESULT
from penstock.deploy.cli import main
from penstock.pipelines import check

PAGE = (Path(__file__).parents[2] / "docs" / "failures.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def example() -> Any:
    """The page's Python blocks as one module."""
    module = ModuleType("failures_example")
    sys.modules[module.__name__] = module
    exec(compile("\n".join(BLOCKS), "docs/failures.md", "exec"), vars(module))
    yield module
    del sys.modules[module.__name__]


def test_the_pipeline_is_right_and_its_test_passes(
    example: Any, topology_driver: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(BLOCKS) == 2
    assert check(example.pipeline.topology) == ()
    example.test_what_fails_is_kept(topology_driver)
    assert capsys.readouterr().out == "order of ann\n" * 2


def test_the_commands_are_there() -> None:
    context = click.Context(main)
    nouns = re.findall(r"^penstock dead-letters (\w+)(.*?)(?:#|$)", PAGE, re.MULTILINE)
    group = main.get_command(context, "dead-letters")
    assert isinstance(group, click.Group)
    assert {name for name, _ in nouns} == set(group.list_commands(context))
    for name, rest in nouns:
        command = group.get_command(context, name)
        assert command is not None
        known = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in rest.split() if word.startswith("--")} <= known


def test_headers_are_those_that_are_written(example: Any, topology_driver: Callable[..., Any]) -> None:
    driver = topology_driver(example.pipeline, partitions=1)
    driver.send_raw(example.orders, b"", key="k")
    [letter] = driver.read(example.billing.dead_letters)
    assert set(re.findall(r"`(penstock\.\w+)`", PAGE)) == {name for name, _ in letter.headers} | {RESULT[0]}
