"""What may be appended: the checks that a client's batches pass before anything is written.

Kafka parses every record that arrives, compressed or not. Here that would be most of a produce's cost, so it is done in
full for compacted topics only, which need the keys. Else the header must agree with itself and with the batch's size,
compressed records must begin as their compression does, and of others the first `WALKED` must lie one behind the
other; where there are no more, up to the batch's last byte.
"""

from penstock.deploy.broker.log import problems
from penstock.deploy.broker.log.batches import (
    APPEND_TIME,
    CODEC,
    CONTROL,
    HEADER,
    HEADER_BYTES,
    MAGIC,
    PREFIX_BYTES,
    TRANSACTIONAL,
    Batch,
    Buffer,
    header_at,
    intact,
)
from penstock.deploy.broker.log.config import LogConfig
from penstock.deploy.broker.log.problems import LogProblem
from penstock.deploy.broker.log.producers import Producers
from penstock.deploy.broker.log.records import SMALLEST, chain, check_records, decompress, looks_compressed
from penstock.deploy.broker.log.results import Appended

WALKED = 32
"""Records looked at: 3 us at most, of a request that takes 60."""


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
        if batch is None and _contradicts_itself(data, position, total):
            raise LogProblem(problems.INVALID_RECORD, "a negative offset, offset delta or number of records")
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
        _check_records(data, batch, config)
    if len(batches) > 1:
        raise LogProblem(problems.INVALID_RECORD, f"{len(batches)} batches for one partition: a request has one")
    return producers.check(batches[0]) if batches[0].producer_id >= 0 else None


def _check_records(data: Buffer, batch: Batch, config: LogConfig) -> None:
    """Raises LogProblem."""
    codec, count = batch.attributes & CODEC, batch.record_count
    begin, end = batch.position + HEADER_BYTES, batch.end
    if config.cleanup_compact:
        index = check_records(decompress(data[begin:end], codec), count)
        if index is not None:
            raise LogProblem(problems.INVALID_RECORD, "a compacted topic takes no record without key", index)
    elif codec:
        if not looks_compressed(data[begin : min(begin + 4, end)], codec):
            raise LogProblem(problems.INVALID_RECORD, f"records that are not compressed by {codec}, as they claim")
    else:
        if count * SMALLEST > end - begin:
            raise LogProblem(problems.INVALID_RECORD, f"{count} records in {end - begin} bytes")
        reached = chain(data, begin, end, min(count, WALKED))
        if count <= WALKED and reached != end:
            raise LogProblem(problems.INVALID_RECORD, f"{end - reached} bytes that the records leave over")


def _contradicts_itself(data: Buffer, position: int, total: int) -> bool:
    """Whether a batch that is all there has numbers in its header that cannot be."""
    size = HEADER.unpack_from(data, position)[1] + PREFIX_BYTES
    return HEADER_BYTES <= size <= total - position and data[position + 16] == MAGIC


def check_client_batch(batch: Batch, *, append_time: bool) -> None:
    """What a client may not send although its checksum is right. Raises LogProblem."""
    attributes = batch.attributes
    if batch.base_offset:
        raise LogProblem(problems.INVALID_RECORD, f"a base offset of {batch.base_offset}: the broker gives offsets")
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
