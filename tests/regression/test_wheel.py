"""What is published: an sdist, the wheel made from it, and what stands in them."""

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = {"tables", "agents", "pipelines", "deploy"}


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist and the wheel, from a copy of the tracked files; nothing is fetched."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    copy, out = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("dist")
    for name in run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=ROOT).split("\0"):
        source, target = ROOT / name, copy / name
        if name and source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
    build = (sys.executable, "-m", "build", "--no-isolation", "--outdir", out)
    run(*build, "--sdist", copy, cwd=copy)
    (sdist,) = out.glob("*.tar.gz")
    unpacked = tmp_path_factory.mktemp("sdist")
    with tarfile.open(sdist) as archive:
        archive.extractall(unpacked, filter="data")
    (source_folder,) = unpacked.iterdir()
    run(*build, "--wheel", source_folder, cwd=unpacked)
    return out


@pytest.fixture(scope="module")
def names(built: Path) -> list[str]:
    """The files in the wheel."""
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return [name for name in archive.namelist() if not name.endswith("/")]


def test_its_only_top_level_is_penstock(names: list[str]) -> None:
    top = {name.partition("/")[0] for name in names}
    info = next(name for name in top if name.endswith(".dist-info"))
    assert top == {"penstock", info}
    assert {name.split("/")[1] for name in names if name.startswith("penstock/")} == FOLDERS


def test_it_holds_every_module_and_what_goes_with_them(names: list[str]) -> None:
    modules = {path.relative_to(ROOT).as_posix() for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")}
    assert {name.removeprefix("penstock/") for name in names if name.endswith(".py")} == modules
    for folder in FOLDERS:
        assert f"penstock/{folder}/py.typed" in names
    for resource in ("pom.xml", "pom-kafka-2.8.xml", "pom-zookeeper.xml", "log4j2.properties", "log4j.properties"):
        assert f"penstock/deploy/kafka/{resource}" in names


def test_it_holds_no_tests_or_examples(names: list[str]) -> None:
    parts = {part for name in names for part in Path(name).parts}
    assert parts.isdisjoint({"tests", "examples", "benchmarks", "docs", "__pycache__", "conftest.py"})


def test_it_is_used_from_where_it_is_installed(built: Path, tmp_path: Path) -> None:
    (wheel,) = built.glob("*.whl")
    target = tmp_path / "site"
    run(
        *(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-compile"),
        *("--target", target, wheel),
        cwd=tmp_path,
    )
    program = (
        f"import sys; sys.path[:0] = [{str(target)!r}]; sys.meta_path[:] = [f for f in sys.meta_path"
        " if 'editable' not in getattr(f, '__name__', type(f).__name__).lower()\n"
        "and '__editable__' not in getattr(f, '__module__', '')]\n"
        "import penstock.pipelines as p, penstock.deploy.cli as c\n"
        "topic = p.Topic('t', key=str, value=int)\n"
        "pipeline = p.Pipeline('p')\n"
        "pipeline.group('g').stream(topic).to(p.Topic('u', key=str, value=int))\n"
        "driver = p.TopologyDriver(pipeline)\n"
        "driver.send(topic, 5, key='k')\n"
        "print(p.__file__, c.__file__, driver.values(p.Topic('u', key=str, value=int)), sep='\\n')\n"
    )
    pipelines, cli, values = run(sys.executable, "-c", program, cwd=tmp_path).splitlines()
    assert pipelines == str(target / "penstock/pipelines/__init__.py")
    assert cli == str(target / "penstock/deploy/cli.py")
    assert values == "[5]"


def test_it_declares_its_command_and_its_pytest_plugin(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        declared = next(name for name in archive.namelist() if name.endswith("entry_points.txt"))
        text = archive.read(declared).decode()
    assert "penstock = penstock.deploy.cli:main" in text
    assert "penstock = penstock.pipelines.pytest_plugin" in text
