"""The record path's compiled part, where it was built.

It is optional: every function of it has a counterpart in Python, and a worker says at its start which of the two runs.
`PENSTOCK_NATIVE=0` leaves it out.
"""

import os
from types import ModuleType

native: ModuleType | None
"""The extension module; None where it was not built or is not wanted."""

if os.environ.get("PENSTOCK_NATIVE", "1") == "0":
    native = None
else:
    try:
        from penstock.agents import _native as native
    except ImportError:
        native = None
