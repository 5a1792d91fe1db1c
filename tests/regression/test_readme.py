"""The README's code is run as it stands there."""

import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import pytest

from penstock.pipelines import check

README = (Path(__file__).parents[2] / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.fixture
def example() -> Any:
    """The README's Python blocks as one module."""
    module = ModuleType("readme_example")
    sys.modules[module.__name__] = module
    exec(compile("\n".join(BLOCKS), "README.md", "exec"), vars(module))
    yield module
    del sys.modules[module.__name__]


def test_the_pipeline_is_right_and_its_test_passes(example: Any, topology_driver: Callable[..., Any]) -> None:
    assert len(BLOCKS) == 2
    assert check(example.pipeline.topology) == ()
    example.test_delays(topology_driver)


def test_the_agent_gets_what_the_join_sends(
    example: Any, topology_driver: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    driver = topology_driver(example.pipeline)
    driver.send(example.planes, example.Plane(400), key="N1")
    driver.send(example.planes, example.Plane(100), key="N2")
    for tail in ("N1", "N2", None):
        driver.send(example.flights, example.Flight("UA", tail, None), key="UA1")
    assert sorted(driver.values(example.seats)) == [100, 400]
    assert capsys.readouterr().out == "N1 400\n"


def test_the_commands_are_there() -> None:
    from penstock.deploy.cli import main

    for name in re.findall(r"^\| `penstock ([\w-]+)", README, re.MULTILINE):
        assert name in main.list_commands(click.Context(main))
    assert "make run" in README[:1500]
    assert "make test" in README[:1500]
