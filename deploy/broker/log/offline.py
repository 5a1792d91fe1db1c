"""A partition whose files are damaged: it answers every request with what is wrong, while the others go on."""

from pathlib import Path
from typing import NoReturn

from penstock.deploy.broker.log.config import LogConfig
from penstock.deploy.broker.log.files import remove_folder
from penstock.deploy.broker.log.partition import PartitionLog
from penstock.deploy.broker.log.problems import LogDamaged
from penstock.deploy.broker.log.results import ProducerInfo


class OfflineLog(PartitionLog):
    """In the place of a log that cannot be opened. Nothing of its files is touched but by `destroy`.

    Reading, appending and asking for its offsets raise the LogDamaged that it was made with.
    """

    def __init__(self, folder: Path, config: LogConfig, damage: LogDamaged) -> None:
        self.folder = folder
        self.config = config
        self.damage = damage

    @property
    def offline(self) -> bool:
        return True

    @property
    def start_offset(self) -> int:
        self._fail()

    @property
    def end_offset(self) -> int:
        self._fail()

    @property
    def last_stable_offset(self) -> int:
        self._fail()

    @property
    def size_bytes(self) -> int:
        return sum(path.stat().st_size for path in self.folder.glob("*.log"))

    @property
    def left(self) -> None:
        return None

    def append_marker(self, producer_id: int, epoch: int, *, commit: bool, coordinator_epoch: int = 0) -> int:
        self._fail()

    def producers(self) -> list[ProducerInfo]:
        return []

    def clean(self, now: float) -> bool:
        return False

    def flush(self) -> None:
        pass

    def flush_if_due(self) -> None:
        pass

    def close(self) -> None:
        pass

    def destroy(self) -> None:
        remove_folder(self.folder)

    def _usable(self, *, append: bool = False) -> None:
        self._fail()

    def _fail(self) -> NoReturn:
        raise LogDamaged(self.damage.path, self.damage.position, self.damage.what)
