"""The compiled parts, where they were built.

They are optional: every function of them has a counterpart in Python, and a worker says at its start which of the two
runs. `PENSTOCK_NATIVE=0` leaves them out.
"""

import os
from importlib import import_module
from types import ModuleType


def compiled(name: str) -> ModuleType | None:
    """An extension module by its full name; None where it was not built or is not wanted.

    >>> compiled("penstock.nowhere._native") is None
    True
    """
    if os.environ.get("PENSTOCK_NATIVE", "1") == "0":
        return None
    try:
        return import_module(name)
    except ImportError:
        return None
