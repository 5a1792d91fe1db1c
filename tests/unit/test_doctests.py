"""The examples in docstrings are run."""

import doctest
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("tables", "agents", "pipelines", "deploy")


def with_examples() -> list[str]:
    """The modules that have examples."""
    paths = (path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py")))
    parts = (path.relative_to(ROOT).with_suffix("").parts for path in paths if ">>> " in path.read_text())
    return [".".join(("penstock", *names)).removesuffix(".__init__") for names in parts]


MODULES = with_examples()


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_a_module(name: str) -> None:
    result = doctest.testmod(import_module(name), optionflags=doctest.REPORT_NDIFF)
    assert result.attempted > 0
    assert result.failed == 0


def test_modules_are_found() -> None:
    assert {"penstock.tables.serdes", "penstock.agents.topics", "penstock.pipelines.pipeline"} <= set(MODULES)
