"""What can be wrong with a request to a log, by Kafka's error codes, and with the files themselves."""

from pathlib import Path

OFFSET_OUT_OF_RANGE = 1
CORRUPT_MESSAGE = 2
MESSAGE_TOO_LARGE = 10
RECORD_LIST_TOO_LARGE = 18
INVALID_TIMESTAMP = 32
POLICY_VIOLATION = 44
OUT_OF_ORDER_SEQUENCE = 45
INVALID_PRODUCER_EPOCH = 47
INVALID_TXN_STATE = 48
STORAGE_ERROR = 56
UNSUPPORTED_COMPRESSION = 76
INVALID_RECORD = 87


class LogProblem(Exception):
    """A request that the log refuses; nothing of it was written.

    Attributes:
        error_code: Kafka's number, as the protocol's responses carry it.
        message: what was wrong, for the response's message field and the broker's log.
        batch_index: which record of the batch is at fault (Produce's record_errors), where it is one record.
    """

    def __init__(self, error_code: int, message: str, batch_index: int | None = None) -> None:
        super().__init__(message)
        self.error_code = error_code
        self.message = message
        self.batch_index = batch_index


class LogDamaged(LogProblem):
    """A file does not hold what was once written to it; the text names the file and the byte position."""

    def __init__(self, path: Path, position: int, what: str) -> None:
        super().__init__(STORAGE_ERROR, f"{path}: damaged at byte {position}: {what}")
        self.path = path
        self.position = position
        self.what = what
