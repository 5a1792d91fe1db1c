"""What may be appended: the checks that a client's batches pass before anything is written."""

from penstock.deploy.broker.log import problems
from penstock.deploy.broker.log.batches import (
    APPEND_TIME,
    CODEC,
    CONTROL,
    HEADER_BYTES,
    MAGIC,
    TRANSACTIONAL,
    Batch,
    Buffer,
    header_at,
    intact,
)
from penstock.deploy.broker.log.config import LogConfig
from penstock.deploy.broker.log.problems import LogProblem
from penstock.deploy.broker.log.producers import Producers
from penstock.deploy.broker.log.records import decompress, keyless
from penstock.deploy.broker.log.results import Appended


def split(data: Buffer, max_message_bytes: int) -> list[Batch]:
    """The batches of a produce request, each checked alone: length, magic, checksum, size. Raises LogProblem."""
    batches: list[Batch] = []
    position, total = 0, len(data)
    while position < total:
        if total - position < HEADER_BYTES:
            raise LogProblem(problems.CORRUPT_MESSAGE, f"{total - position} bytes are too few for a record batch")
        magic = data[position + 16]
        if magic < MAGIC:
            raise LogProblem(problems.INVALID_RECORD, f"record format {magic}: only format {MAGIC} is accepted")
        batch = header_at(data, position, total)
        if batch is None:
            raise LogProblem(problems.CORRUPT_MESSAGE, f"no whole record batch at byte {position} of {total}")
        if batch.size > max_message_bytes:
            raise LogProblem(
                problems.MESSAGE_TOO_LARGE, f"a batch of {batch.size} bytes; max.message.bytes is {max_message_bytes}"
            )
        if not intact(data, batch):
            raise LogProblem(problems.CORRUPT_MESSAGE, f"the batch at byte {position} fails its checksum")
        batches.append(batch)
        position = batch.end
    if not batches:
        raise LogProblem(problems.INVALID_RECORD, "no record batch")
    return batches


def admit(data: Buffer, batches: list[Batch], config: LogConfig, producers: Producers) -> Appended | None:
    """What only clients must respect; returns where a repeated batch went. Raises LogProblem."""
    for batch in batches:
        check_client_batch(batch, append_time=config.append_time)
        if config.cleanup_compact:
            body = decompress(data[batch.position + HEADER_BYTES : batch.end], batch.attributes & CODEC)
            index = keyless(body, batch.record_count)
            if index is not None:
                raise LogProblem(problems.INVALID_RECORD, "a compacted topic takes no record without key", index)
    if all(batch.producer_id < 0 for batch in batches):
        return None
    if len(batches) > 1:
        raise LogProblem(problems.INVALID_RECORD, "an idempotent producer sends one batch per partition")
    return producers.check(batches[0])


def check_client_batch(batch: Batch, *, append_time: bool) -> None:
    """What a client may not send although its checksum is right. Raises LogProblem."""
    attributes = batch.attributes
    if attributes & CONTROL:
        raise LogProblem(problems.INVALID_RECORD, "clients may not write control records")
    if batch.record_count < 1 or batch.last_delta != batch.record_count - 1:
        raise LogProblem(
            problems.INVALID_RECORD, f"{batch.record_count} records with a last offset delta of {batch.last_delta}"
        )
    if attributes & CODEC > 4:
        raise LogProblem(problems.UNSUPPORTED_COMPRESSION, f"unknown compression {attributes & CODEC}")
    if attributes & APPEND_TIME and not append_time:
        raise LogProblem(problems.INVALID_TIMESTAMP, "append timestamps are the broker's to write")
    if batch.max_timestamp < -1:
        raise LogProblem(problems.INVALID_TIMESTAMP, f"a timestamp of {batch.max_timestamp}")
    if batch.producer_id >= 0 and (batch.sequence < 0 or batch.epoch < 0):
        raise LogProblem(problems.INVALID_RECORD, "an idempotent batch without sequence number or epoch")
    if attributes & TRANSACTIONAL and batch.producer_id < 0:
        raise LogProblem(problems.INVALID_RECORD, "a transactional batch without producer id")
