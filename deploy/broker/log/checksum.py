"""CRC-32C, the checksum of record batches and of our own files, in hardware.

The extension module of the crc32c package is loaded without the package around it, which looks up its own version among
all that is installed: 40 ms of the broker's start, for one that takes 1.
"""

from collections.abc import Callable
from importlib.machinery import PathFinder
from importlib.util import find_spec, module_from_spec
from typing import Any


def _extension() -> Any:
    package = find_spec("crc32c")  # found, not run
    places = package.submodule_search_locations if package is not None else None
    spec = PathFinder.find_spec("crc32c._crc32c", places)
    if places is None or spec is None or spec.loader is None:
        import crc32c  # installed in another way, or not at all, which this tells

        return crc32c
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


crc32c: Callable[..., int] = _extension().crc32c
"""Of bytes-like data, and of what came before it: ``crc32c(data, before=0)``."""
