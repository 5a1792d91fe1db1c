"""Defects of the broker, which it logs as errors and survives: a test that feeds it nonsense wants none."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def none_logged() -> Iterator[None]:
    """Whatever comes in, no handler fails: that would be logged as an error."""
    errors: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            errors.append(self.format(record))

    keep = Keep(logging.ERROR)
    logger = logging.getLogger("penstock.deploy.broker")
    logger.addHandler(keep)
    yield
    logger.removeHandler(keep)
    assert errors == []
