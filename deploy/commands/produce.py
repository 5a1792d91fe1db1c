"""`penstock produce`: lines, JSON, CSV or Parquet into a topic."""

import sys
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import click

from penstock.agents.security import Security
from penstock.deploy.commands.options import broker_option, json_option, module_option, told, topic_names

FORMATS = ("lines", "jsonl", "csv", "parquet")
_BY_SUFFIX = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".parquet": "parquet"}

OVERHEAD = 120
"""Bytes of a batch with one record beside its key and value, at most."""

MOST_TOLD = 20
"""Lines that are told when nothing is sent because of them."""


@click.command()
@click.argument("topic", shell_complete=topic_names)
@click.argument("file", default="-", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.option("--format", "form", type=click.Choice(FORMATS), help="Default: by the file's name, else lines.")
@click.option("--key-field", metavar="FIELD", help="The field that is the key (jsonl, csv, parquet).")
@click.option("--key-separator", metavar="TEXT", help="What parts the key from the value (lines).")
@click.option("--timestamp-field", metavar="FIELD", help="The field with the time: ISO, or ms since 1970.")
@click.option("--acks", type=click.Choice(["0", "1", "all"]), default="all", show_default=True)
@module_option
@broker_option
@json_option
@told
def produce(
    topic: str, file: str, broker: str, security: Security, module: str | None, acks: Any, as_json: bool, **options: Any
) -> None:
    """Write records from FILE, or from standard input, and tell what became of them.

    CSV rows become JSON objects, of texts unless --as says otherwise. With --as every value is checked before any is
    sent. The exit code is 1 where a record was not delivered.
    """
    import logging

    from penstock.deploy.commands.admin import connected
    from penstock.deploy.commands.rows import Encoder, Source

    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    form = options["form"] or _BY_SUFFIX.get(Path(file).suffix, "lines")
    if options["key_separator"] is not None and form != "lines":
        raise click.UsageError("--key-separator is for --format lines; use --key-field")
    if form == "lines" and (options["key_field"] or options["timestamp_field"]):
        raise click.UsageError("lines have no fields: say --format jsonl, csv or parquet")
    declared = None
    if module is not None:
        from penstock.deploy.commands.typed import topic_of

        declared = topic_of(module, topic)
    with connected(broker, security) as admin:
        admin.partitions([topic])
        limit = int(admin.config(topic, "max.message.bytes") or 1 << 20)
        compacted = "compact" in (admin.config(topic, "cleanup.policy") or "")
    encoder = Encoder(
        form, declared, key=options["key_field"], separator=options["key_separator"], time=options["timestamp_field"]
    )
    with _opened(file) as stream:
        chunks = Source(stream, form).chunks(encoder)
        if declared is not None:
            chunks = iter([_checked(chunks)])
        report = _Report(topic, acks, limit, compacted, "row" if form == "parquet" else "line")
        interrupted = _send_all(broker, security, chunks, report)
    report.tell(as_json)
    sys.exit(130 if interrupted else 1 if report.failed else 0)


def _opened(file: str) -> Any:
    from contextlib import nullcontext

    if file != "-":
        return Path(file).open("rb")
    stream: BinaryIO = sys.stdin.buffer
    if sys.stdin.isatty():
        click.echo("each line is a record; Ctrl-D ends", err=True)
    return nullcontext(stream)


def _checked(chunks: Iterator[list[Any]]) -> list[Any]:
    """Every record, once all of them are right."""
    from penstock.tables.errors import PenstockError

    rows = [row for chunk in chunks for row in chunk]
    if wrong := [row for row in rows if row.error]:
        listed = [f"{row.what} {row.number}: {row.error}" for row in wrong[:MOST_TOLD]]
        if len(wrong) > MOST_TOLD:
            listed.append(f"and {len(wrong) - MOST_TOLD} more")
        raise PenstockError("\n  ".join([f"nothing is sent, {len(wrong)} of {len(rows)} records are wrong:", *listed]))
    return rows


class _Report:
    """What became of the records."""

    def __init__(self, topic: str, acks: str, limit: int, compacted: bool, what: str) -> None:
        self.topic, self.limit, self._compacted, self._what = topic, limit, compacted, what
        self.acks: Any = acks if acks == "all" else int(acks)
        self.delivered: Counter[int] = Counter()
        self.failed: list[dict[str, Any]] = []

    def obstacle(self, row: Any) -> str | None:
        """Why the broker would refuse a record, with everything that is in its batch; None where it would not."""
        if row.error:
            return str(row.error)
        size = len(row.key or b"") + len(row.value or b"") + OVERHEAD
        if size > self.limit:
            return f"{size:,} bytes are more than the topic's max.message.bytes, {self.limit:,}"
        if row.value is None and row.key is None:
            return "a tombstone needs a key"
        return "the topic is compacted, so a record needs a key" if self._compacted and row.key is None else None

    def acknowledged(self, delivery: Any) -> None:
        """Count one."""
        self.delivered[delivery.partition] += 1

    def refused(self, number: int, error: Any) -> None:
        """Tell one: a text, or the client's DeliveryFailed."""
        partition, reason = (-1, error) if isinstance(error, str) else (error.partition, error.reason)
        where = f" to partition {partition}" if partition >= 0 else ""
        click.echo(f"{self._what} {number}: not delivered{where}: {reason}", err=True)
        row = {self._what: number, "partition": partition if partition >= 0 else None, "error": reason}
        self.failed.append(row)

    def tell(self, as_json: bool) -> None:
        """The summary."""
        from penstock.deploy.commands.output import print_json

        partitions = {str(partition): count for partition, count in sorted(self.delivered.items())}
        total = self.delivered.total()
        if as_json:
            summary = {"topic": self.topic, "delivered": total, "failed": len(self.failed), "partitions": partitions}
            print_json(summary | {"errors": self.failed})
            return
        done = "sent, unacknowledged" if self.acks == 0 else "delivered"
        where = ", ".join(f"partition {partition}: {count:,}" for partition, count in partitions.items())
        click.echo(f"{self.topic}: {total:,} {done}, {len(self.failed):,} failed" + (f" ({where})" if where else ""))


def _send_all(broker: str, security: Security, chunks: Iterator[list[Any]], report: _Report) -> bool:
    """Send what there is, as it comes. Reading blocks in this thread, the client has its own.

    Returns:
        Whether Ctrl-C ended it; what was sent by then is accounted for.
    """
    from penstock.agents.topics import Topic
    from penstock.deploy.clients.producer import BATCH_BYTES, Producer
    from penstock.deploy.clients.sync import LoopThread

    raw: Topic[Any, Any] = Topic(report.topic, key=bytes, value=bytes)
    producer = Producer(broker, acks=report.acks, batch_bytes=min(BATCH_BYTES, report.limit), security=security)

    async def send(rows: list[Any]) -> None:
        for row in rows:
            if (obstacle := report.obstacle(row)) is not None:
                report.refused(row.number, obstacle)
                continue
            await producer.send(
                raw,
                row.value,
                key=row.key,
                timestamp=row.timestamp,
                on_delivery=report.acknowledged,
                on_error=partial(report.refused, row.number),
            )

    interrupted = False
    with LoopThread() as loop:
        loop.call(producer.__aenter__())
        try:
            for rows in chunks:
                loop.call(send(rows))
        except KeyboardInterrupt:
            interrupted = True
        finally:
            loop.call(producer.__aexit__())
    return interrupted
