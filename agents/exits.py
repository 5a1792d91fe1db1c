"""How a worker process ends, for those who start it again."""

UNSTARTABLE = 2
"""It would fail the same way again: a wrong module, a broken topology, a slot that another worker has."""

HUNG = 70
"""Its shutdown hung (EX_SOFTWARE)."""
