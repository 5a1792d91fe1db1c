"""Modules by the names that users type: found, or told what is wrong with them."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock.deploy.modules import ModuleProblem, load_pipeline
from penstock.pipelines import Pipeline

RIGHT = 'from penstock.pipelines import Pipeline\npipeline = Pipeline("one")\nnumber = 5\n'


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder; what was imported from it is forgotten after the test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def write(path: str, source: str) -> Path:
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(source)
    return file


def problem(name: str) -> str:
    with pytest.raises(ModuleProblem) as error:
        load_pipeline(name)
    return str(error.value)


# ---- found


@pytest.mark.parametrize(
    "name",
    [
        "shop_a.flows",
        "shop_a/flows.py",
        "./shop_a/flows.py",
        "shop_a.flows:pipeline",
        "shop_a/flows.py:pipeline",
        "shop_a/../shop_a/flows.py",
    ],
)
def test_forms_of_a_name(name: str) -> None:
    write("shop_a/flows.py", RIGHT)
    loaded = load_pipeline(name)
    assert (type(loaded), loaded.name) == (Pipeline, "one")
    assert loaded is sys.modules["shop_a.flows"].pipeline  # the same module, however it is named


def test_an_absolute_path(folder: Path) -> None:
    write("shop_b.py", RIGHT)
    assert load_pipeline(str(folder / "shop_b.py")).name == "one"


def test_a_file_elsewhere_or_with_a_name_that_is_no_identifier(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "shop_c.py"
    elsewhere.write_text(RIGHT)
    assert load_pipeline(str(elsewhere)).name == "one"
    write("my-flows.py", RIGHT)
    assert load_pipeline("my-flows.py").name == "one"
    assert load_pipeline("my-flows.py").location.file == str(folder / "my-flows.py")


def test_a_pipeline_under_two_names_is_one() -> None:
    write("shop_d.py", RIGHT + "same = pipeline\n")
    assert load_pipeline("shop_d").name == "one"


def test_a_file_may_import_its_neighbours() -> None:
    write("shop_e/models.py", "NAME = 'two'\n")
    write(
        "shop_e/flows.py",
        "from penstock.pipelines import Pipeline\nfrom shop_e.models import NAME\np = Pipeline(NAME)\n",
    )
    assert load_pipeline("shop_e/flows.py").name == "two"


# ---- not found


def test_no_such_module() -> None:
    told = problem("nowhere.flows")
    assert told.startswith(f"there is no module 'nowhere.flows' (looked in {Path.cwd()} and the environment)")
    assert "Then write nowhere/flows.py" in told


def test_no_such_submodule() -> None:
    write("shop_f/__init__.py", "")
    assert "there is no module 'shop_f.flows'" in problem("shop_f.flows")


def test_no_such_file() -> None:
    assert problem("nowhere/flows.py") == f"there is no file nowhere/flows.py (in {Path.cwd()})"
    assert problem("flows/").startswith("there is no file flows (")


def test_not_a_python_file() -> None:
    write("shop_g/flows.txt", RIGHT)
    assert "is not a Python file" in problem("shop_g/flows.txt")


def test_no_such_attribute_tells_those_there_are() -> None:
    write("shop_h.py", RIGHT + 'other = Pipeline("two")\n')
    assert problem("shop_h:missing") == "shop_h has no pipeline named 'missing'; it has pipeline, other"
    assert problem("shop_h:number") == "shop_h has no pipeline named 'number'; it has pipeline, other"


def test_several_pipelines_need_a_choice() -> None:
    write("shop_i.py", RIGHT + 'other = Pipeline("two")\n')
    assert problem("shop_i") == "shop_i has several pipelines: say shop_i:NAME with one of pipeline, other"
    assert load_pipeline("shop_i:other").name == "two"


def test_no_pipeline_at_all() -> None:
    write("shop_j.py", "number = 5\n")
    assert problem("shop_j") == 'shop_j has no pipeline; one is declared with pipeline = Pipeline("name")'
    assert problem("shop_j:pipeline") == "shop_j has no pipeline named 'pipeline'; it has none at all"


# ---- fails to import


@pytest.mark.parametrize("name", ["shop_k", "shop_k.py"])
def test_a_module_that_raises(name: str, folder: Path) -> None:
    write("shop_k.py", "def fail():\n    raise ValueError('no luck')\n\nfail()\n")
    assert problem(name) == f"shop_k fails to import: {folder}/shop_k.py:2: ValueError: no luck"


def test_a_module_that_raises_under_a_name_that_is_no_identifier(folder: Path) -> None:
    write("my-broken.py", "\n1 / 0\n")
    assert f"fails to import: {folder}/my-broken.py:2: ZeroDivisionError: division by zero" in problem("my-broken.py")


@pytest.mark.parametrize("name", ["shop_l.py", "my-shop.py"])
def test_a_syntax_error(name: str, folder: Path) -> None:
    write(name, "x = 1\ny = = 2\n")
    assert f"fails to import: {folder}/{name}:2: SyntaxError: invalid syntax" in problem(name)


def test_a_module_that_imports_what_is_missing(folder: Path) -> None:
    write("shop_m.py", "\nimport not_installed_anywhere\n")
    told = problem("shop_m")
    assert told.startswith(f"shop_m fails to import: {folder}/shop_m.py:2: ModuleNotFoundError")
    assert "not_installed_anywhere" in told
