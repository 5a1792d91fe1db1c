"""A store's marks: a second space of keys beside its rows, in a column family that is made when first used."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

from rocksdict import Options, Rdict, WriteBatch

from penstock.tables.rocks_files import META, Budget

MARKS = "marks"
MIB = 1 << 20


def families(path: Path, budget: Budget, options: Options) -> dict[str, Options]:
    """The column families that a database has or gets, beside the rows'."""
    found = {META: budget.options(MIB)}
    if (path / "CURRENT").exists() and MARKS in Rdict.list_cf(str(path), options):
        found[MARKS] = budget.options()
    return found


class Marks:
    """The marks of one open database.

    Args:
        db: the database.
        options: of the column family.
    """

    def __init__(self, db: Rdict, options: Options, *, there: bool) -> None:
        self._options = options
        self._family: Rdict | None = None
        self._handle: Any = None
        if there:
            self._take(db)

    def _take(self, db: Rdict) -> None:
        self._family = db.get_column_family(MARKS)
        self._handle = db.get_column_family_handle(MARKS)

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The marks of some keys."""
        if self._family is None:
            return [None] * len(keys)
        return cast(list[bytes | None], self._family.get(list(keys)))

    def items(self, start: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Marks in key order, as they are now."""
        return (
            iter(())
            if self._family is None
            else cast(Iterator[tuple[bytes, bytes]], self._family.items(from_key=start))
        )

    def family(self, db: Rdict) -> Rdict:
        """The column family; made where it is missing."""
        if self._family is None:
            db.create_column_family(MARKS, self._options).close()
            self._take(db)
        assert self._family is not None
        return self._family

    def add(self, db: Rdict, batch: WriteBatch, marks: Iterable[tuple[bytes, bytes | None]]) -> None:
        """Add marks to an atomic write; None deletes."""
        for key, value in marks:
            self.family(db)
            if value is None:
                batch.delete(key, self._handle)
            else:
                batch.put(key, value, self._handle)

    def clear(self, batch: WriteBatch) -> None:
        """Add the deletion of all marks to an atomic write."""
        if self._family is None:
            return
        last = self._family.iter()
        last.seek_to_last()
        if last.valid():
            batch.delete_range(b"", last.key(), self._handle)
            batch.delete(last.key(), self._handle)
        del last

    def close(self) -> None:
        """Let go of the database."""
        family, self._family, self._handle = self._family, None, None
        if family is not None:
            family.close()
