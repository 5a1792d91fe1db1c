"""Copies of stores in a folder or an object store: a worker without its disk starts from one, and replays the rest.

URL/GROUP/TABLE-PARTITION/POSITION-ID/ has the files of one snapshot and, written last, `manifest.json`:
without that there is no snapshot. It says what table and partition it is, up to which changelog position, and of
each file its size and checksum.
"""

import hashlib
import logging
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import msgspec

from penstock.tables.errors import PenstockError
from penstock.tables.rocks_files import FORMAT, Identity
from penstock.tables.rocksdb import RocksStore, RocksStores
from penstock.tables.store import store_name

log = logging.getLogger("penstock.snapshots")

KEEP = 2
"""Snapshots of a partition that stay: the newest, and one to fall back to."""

MANIFEST = "manifest.json"
_BLOCK = 1 << 20


class SnapshotError(PenstockError):
    """A snapshot that cannot be used, or a place that cannot be reached."""


class _File(msgspec.Struct, frozen=True):
    size: int
    sha256: str


class _Manifest(msgspec.Struct, frozen=True):
    identity: Identity
    position: int
    taken: float
    files: dict[str, _File]


class Place(Protocol):
    """Where snapshots lie. Names are paths with slashes."""

    def folders(self, under: str) -> list[str]:
        """Names of the folders in a folder; none where it is not there."""
        ...

    def read(self, name: str) -> bytes | None:
        """A small file; None where it is not there."""
        ...

    def write(self, name: str, data: bytes) -> None:
        """Write a small file, whole or not at all."""
        ...

    def upload(self, file: Path, name: str) -> None:
        """Copy a file there."""
        ...

    def download(self, name: str, file: Path) -> None:
        """Copy a file from there."""
        ...

    def remove(self, folder: str) -> None:
        """Remove a folder and what is in it."""
        ...


class FolderPlace:
    """A folder of this machine, or one that is mounted."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def folders(self, under: str) -> list[str]:
        """See `Place.folders`."""
        path = self._folder / under
        return [entry.name for entry in path.iterdir() if entry.is_dir()] if path.is_dir() else []

    def read(self, name: str) -> bytes | None:
        """See `Place.read`."""
        try:
            return (self._folder / name).read_bytes()
        except FileNotFoundError:
            return None

    def write(self, name: str, data: bytes) -> None:
        """See `Place.write`."""
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.part")
        part.write_bytes(data)
        part.replace(path)

    def upload(self, file: Path, name: str) -> None:
        """See `Place.upload`."""
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, path)

    def download(self, name: str, file: Path) -> None:
        """See `Place.download`."""
        shutil.copyfile(self._folder / name, file)

    def remove(self, folder: str) -> None:
        """See `Place.remove`."""
        shutil.rmtree(self._folder / folder, ignore_errors=True)


class RemotePlace:
    """A place that fsspec reaches: s3://, gs://, memory:// and others."""

    def __init__(self, url: str) -> None:
        try:
            import fsspec
        except ImportError as exc:
            raise SnapshotError(f"{url}: such places need fsspec: pip install 'penstock[snapshots]'") from exc
        try:
            self._fs, self._root = fsspec.core.url_to_fs(url)
        except (ImportError, ValueError) as exc:
            raise SnapshotError(f"{url}: {exc}") from exc

    def _path(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"

    def folders(self, under: str) -> list[str]:
        """See `Place.folders`."""
        self._fs.invalidate_cache()
        try:
            found = self._fs.ls(self._path(under), detail=True)
        except FileNotFoundError:
            return []
        return [str(e["name"]).rstrip("/").rpartition("/")[2] for e in found if e["type"] == "directory"]

    def read(self, name: str) -> bytes | None:
        """See `Place.read`."""
        try:
            return bytes(self._fs.cat_file(self._path(name)))
        except FileNotFoundError:
            return None

    def write(self, name: str, data: bytes) -> None:
        """See `Place.write`. Object stores write whole objects."""
        self._fs.pipe_file(self._path(name), data)

    def upload(self, file: Path, name: str) -> None:
        """See `Place.upload`."""
        self._fs.put_file(str(file), self._path(name))

    def download(self, name: str, file: Path) -> None:
        """See `Place.download`."""
        self._fs.get_file(self._path(name), str(file))

    def remove(self, folder: str) -> None:
        """See `Place.remove`."""
        self._fs.rm(self._path(folder), recursive=True)


class Snapshots:
    """The snapshots of one group.

    Args:
        url: a folder, or a URL for fsspec.
        group: the group's id.
    """

    def __init__(self, url: str, group: str) -> None:
        self.url, self.group = url, group
        self._place: Place = RemotePlace(url) if "://" in url else FolderPlace(Path(url))

    def _at(self, table: str, partition: int) -> str:
        return f"{self.group}/{store_name(table, partition)}"

    def take(self, store: RocksStore, scratch: Path) -> tuple[Path, int]:
        """A copy of a store as it is now, flushed and then by hard links; its thread may write meanwhile, and must not
        close it. `publish` takes it further.

        Returns:
            The copy's folder, and its changelog position, or one before it.
        """
        scratch.mkdir(parents=True, exist_ok=True)
        copy, position = Path(tempfile.mkdtemp(dir=scratch)) / "copy", store.position
        store.copy(copy)
        return copy, position

    def publish(self, table: str, partition: int, partitions: int, copy: Path, position: int, source: str = "") -> str:
        """Upload a copy, the manifest last; then remove all but the newest `KEEP`. The copy is removed too.

        Returns:
            The snapshot's name.
        """
        name = f"{self._at(table, partition)}/{position:020d}-{uuid.uuid4().hex[:8]}"
        try:
            files = {file.name: _File(file.stat().st_size, _sha256(file)) for file in sorted(copy.iterdir())}
            for file in files:
                self._place.upload(copy / file, f"{name}/{file}")
            identity = Identity(table, partition, FORMAT, partitions, source)
            manifest = _Manifest(identity, position, time.time(), files)
            self._place.write(f"{name}/{MANIFEST}", msgspec.json.encode(manifest))
        finally:
            shutil.rmtree(copy.parent, ignore_errors=True)
        whole = 0
        for old in self._names(table, partition):
            whole += self._place.read(f"{old}/{MANIFEST}") is not None
            if whole > KEEP:
                self._place.remove(old)
        return name

    def _names(self, table: str, partition: int) -> list[str]:
        """Newest first."""
        at = self._at(table, partition)
        return [f"{at}/{name}" for name in sorted(self._place.folders(at), reverse=True)]

    def fetch(self, table: str, partition: int, partitions: int, path: Path, source: str = "") -> int | None:
        """Make a store's folder from the newest snapshot that is whole; one that is not is told in the log.

        Returns:
            Its changelog position; None where there is no snapshot to use.
        """
        for name in self._names(table, partition):
            part = path.with_name(f".{path.name}.part")
            shutil.rmtree(part, ignore_errors=True)
            try:
                position = self._fetch(name, Identity(table, partition, FORMAT, partitions, source), part)
                if position is None:
                    continue  # never published
                part.rename(path)
            except (SnapshotError, OSError) as exc:
                shutil.rmtree(part, ignore_errors=True)
                log.warning("snapshot %s is not used: %s", name, exc)
                continue
            log.info("%s is taken from snapshot %s, position %d", path.name, name, position)
            return position
        return None

    def _fetch(self, name: str, wanted: Identity, part: Path) -> int | None:
        raw = self._place.read(f"{name}/{MANIFEST}")
        if raw is None:
            return None
        try:
            manifest = msgspec.json.decode(raw, type=_Manifest)
        except msgspec.DecodeError as exc:
            raise SnapshotError(f"its manifest cannot be read: {exc}") from exc
        if not manifest.identity.agrees(wanted):
            raise SnapshotError(f"it holds {manifest.identity}, not {wanted}")
        part.mkdir(parents=True)
        for file, about in manifest.files.items():
            if Path(file).name != file:
                raise SnapshotError(f"its manifest names {file!r}")
            self._place.download(f"{name}/{file}", part / file)
            if (part / file).stat().st_size != about.size or _sha256(part / file) != about.sha256:
                raise SnapshotError(f"its file {file} is damaged")
        return manifest.position


class SnapshotStores:
    """A `StoreFactory` on disk that takes a store which is not there from its newest snapshot.

    Args:
        stores: the stores on disk.
        snapshots: the group's.
    """

    def __init__(self, stores: RocksStores, snapshots: Snapshots) -> None:
        self.stores, self.snapshots = stores, snapshots

    def open(self, table: str, partition: int, partitions: int = 0, source: str = "") -> RocksStore:
        """See `StoreFactory.open`."""
        path = self.stores.folder / store_name(table, partition)
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            self.snapshots.fetch(table, partition, partitions, path, source)
        return self.stores.open(table, partition, partitions, source)

    def discard(self, table: str, partition: int) -> None:
        """See `StoreFactory.discard`."""
        self.stores.discard(table, partition)


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    for block in _blocks(file):
        digest.update(block)
    return digest.hexdigest()


def _blocks(file: Path) -> Iterator[bytes]:
    with file.open("rb") as opened:
        while block := opened.read(_BLOCK):
            yield block


def as_rocks(store: Any) -> RocksStore | None:
    """The store as one that can be copied; None where it is in memory."""
    return store if isinstance(store, RocksStore) else None
