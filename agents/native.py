"""The record path's compiled part, where it was built: see `tables/compiled.py`."""

from types import ModuleType

from penstock.tables.compiled import compiled

native: ModuleType | None = compiled("penstock.agents._native")
"""The extension module; None where it was not built or is not wanted."""
