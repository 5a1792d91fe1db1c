"""Find a pipeline by the name a user types: a module's dotted name or a file's path, with :ATTRIBUTE where needed."""

import importlib
import importlib.util
import sys
import traceback
from pathlib import Path
from types import ModuleType

from penstock.pipelines.pipeline import Pipeline
from penstock.tables.errors import PenstockError


class ModuleProblem(PenstockError):
    """The module cannot be imported, or holds no pipeline."""


def load_pipeline(name: str) -> Pipeline:
    """The pipeline of a module.

    Args:
        name: `package.module`, `path/to/module.py`, either with `:attribute` where the module has several pipelines.

    Raises:
        ModuleProblem: there is no such module, it fails to import, or it does not hold exactly one pipeline.
    """
    place, _, attribute = name.partition(":")
    module = _import(place)
    if attribute:
        found = getattr(module, attribute, None)
        if not isinstance(found, Pipeline):
            raise ModuleProblem(
                f"{place} has no pipeline named {attribute!r}; it has {_names(module) or 'none at all'}"
            )
        return found
    pipelines = {id(value): value for value in vars(module).values() if isinstance(value, Pipeline)}
    if len(pipelines) == 1:
        return next(iter(pipelines.values()))
    if pipelines:
        raise ModuleProblem(f"{place} has several pipelines: say {place}:NAME with one of {_names(module)}")
    raise ModuleProblem(f'{place} has no pipeline; one is declared with pipeline = Pipeline("name")')


def _names(module: ModuleType) -> str:
    return ", ".join(name for name, value in vars(module).items() if isinstance(value, Pipeline))


def _import(place: str) -> ModuleType:
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)  # as `python -m` does: a project needs no installation to be run
    if place.endswith(".py") or "/" in place:
        return _import_file(Path(place))
    try:
        return importlib.import_module(place)
    except ModuleNotFoundError as exc:
        if exc.name is not None and (place == exc.name or place.startswith(f"{exc.name}.")):
            advice = f"Is it a path? Then write {place.replace('.', '/')}.py" if not Path(place).exists() else ""
            raise ModuleProblem(
                f"there is no module {place!r} (looked in {here} and the environment). {advice}"
            ) from exc
        raise _broken(place, exc) from exc
    except Exception as exc:
        raise _broken(place, exc) from exc


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise ModuleProblem(f"there is no file {path} (in {Path.cwd()})")
    if path.suffix != ".py":
        raise ModuleProblem(f"{path} is not a Python file")
    path = path.resolve()
    here = Path.cwd().resolve()
    if path.is_relative_to(here):
        # By its dotted name, so that it is the same module as where others import it.
        dotted = ".".join(path.relative_to(here).with_suffix("").parts)
        if all(part.isidentifier() for part in dotted.split(".")):
            return _import(dotted)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None  # never for a name that ends in .py
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
    except Exception as exc:
        raise _broken(str(path), exc) from exc
    return module


def _broken(place: str, exc: Exception) -> ModuleProblem:
    frames = [f for f in traceback.extract_tb(exc.__traceback__) if not f.filename.startswith("<frozen")]
    where = f"{frames[-1].filename}:{frames[-1].lineno}: " if frames else ""
    if isinstance(exc, SyntaxError):
        where = f"{exc.filename}:{exc.lineno}: "
    return ModuleProblem(f"{place} fails to import: {where}{type(exc).__name__}: {exc}")
