"""The rows of a table as an agent's body reads them."""

from collections.abc import Iterator
from typing import Any, Generic, TypeVar, overload

from penstock.agents.context import RowsView

K = TypeVar("K")
V = TypeVar("V")
D = TypeVar("D")


class Rows(Generic[K, V]):
    """Read as a dict: of a table the rows of the partition of the record at hand, of a global table all of them."""

    _view: RowsView

    def __getitem__(self, key: K) -> V:
        row = self._view.get(key)
        if row is None:
            raise KeyError(key)
        return row  # type: ignore[no-any-return]

    @overload
    def get(self, key: K) -> V | None: ...
    @overload
    def get(self, key: K, default: D) -> V | D: ...
    def get(self, key: K, default: Any = None) -> Any:
        """The row of a key, or `default`."""
        return self._view.get(key, default)

    def __contains__(self, key: K) -> bool:
        return self._view.get(key) is not None

    def items(self) -> Iterator[tuple[K, V]]:
        """Every (key, row), in the order of the encoded keys; what the body wrote is among them."""
        return self._view.items()

    def scan(
        self, start: K | None = None, end: K | None = None, *, prefix: K | bytes | None = None
    ) -> Iterator[tuple[K, V]]:
        """The (key, row) pairs within bounds, in the order of the encoded keys; what the body wrote is among them.

        Args:
            start: the first key. Default None: the first there is.
            end: the key before which it ends. Default None: to the last.
            prefix: only keys whose encoded form begins so: bytes as they are, else a key that is encoded.
        """
        return self._view.items(start, end, prefix)
