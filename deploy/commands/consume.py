"""`penstock consume`: records of a topic on the terminal or into a pipe."""

import select
import sys
from collections.abc import Callable
from typing import Any

import click

from penstock.agents.security import Security
from penstock.deploy.commands.options import (
    Time,
    broker_option,
    group_names,
    iso,
    module_option,
    told,
    topic_names,
)

LOOK_SECONDS = 0.2
"""Between two looks whether anybody still reads the output."""


@click.command()
@click.argument("topic", shell_complete=topic_names)
@click.option("--from-beginning", is_flag=True, help="From the first record. Default: what comes from now on.")
@click.option(
    "--from-offset", "offsets", multiple=True, metavar="[P:]N", help="From an offset, of a partition; repeat."
)
@click.option("--from-time", type=Time(), help="From the first record as young as that; UTC without a zone.")
@click.option("--group", shell_complete=group_names, help="As a member of this consumer group, committing.")
@click.option(
    "--partition", "partitions", multiple=True, type=click.IntRange(0), help="Only this one; may be repeated."
)
@click.option("--max", "most", type=click.IntRange(1), help="End after so many records.")
@click.option("--until-end", is_flag=True, help="End where the topic ends now.")
@click.option("--keys", is_flag=True, help="Print keys.")
@click.option("--headers", is_flag=True, help="Print headers.")
@click.option("--timestamps", is_flag=True, help="Print timestamps, in UTC.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, with everything.")
@click.option("--read-uncommitted", is_flag=True, help="Also records of transactions that are open or aborted.")
@module_option
@broker_option
@told
def consume(topic: str, broker: str, security: Security, module: str | None, **options: Any) -> None:
    """Print a topic's records, until Ctrl-C unless told otherwise.

    Bytes that are no text are escaped; in JSON they are in "base64" instead. With --as, a record that cannot be
    decoded is named with its partition and offset, and the exit code is 1.
    """
    import asyncio
    import logging

    from penstock.agents.topics import Topic

    if options["group"] and (options["offsets"] or options["from_time"] is not None or options["partitions"]):
        raise click.UsageError("a group decides where its members read: `penstock groups reset` moves it")
    if bool(options["from_beginning"]) + bool(options["offsets"]) + (options["from_time"] is not None) > 1:
        raise click.UsageError("--from-beginning, --from-offset and --from-time exclude each other")
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    declared: Topic[Any, Any] | None = None
    if module is not None:
        from penstock.deploy.commands.typed import topic_of

        declared = topic_of(module, topic)
    start = "earliest" if options["from_beginning"] else "latest"
    if not options["group"]:
        start = _starts(broker, security, topic, options)
    printer = _Printer(declared, **{name: options[name] for name in ("keys", "headers", "timestamps", "as_json")})
    try:
        asyncio.run(_run(broker, security, topic, start, printer, options))
    except KeyboardInterrupt:
        pass
    except BrokenPipeError:
        _quiet_exit()
    sys.exit(1 if printer.undecodable else 0)


def _starts(broker: str, security: Security, topic: str, options: dict[str, Any]) -> Any:
    """Where each partition begins."""
    from penstock.deploy.commands.admin import connected
    from penstock.tables.errors import PenstockError

    with connected(broker, security) as admin:
        count = len(admin.partitions([topic])[topic])
        wanted = options["partitions"] or range(count)
        if wrong := [number for number in wanted if number >= count]:
            raise PenstockError(f"topic {topic!r} has partitions 0 to {count - 1}, not {wrong[0]}")
        places = [(topic, number) for number in wanted]
        if options["from_beginning"]:
            return admin.starts(places)
        if options["from_time"] is not None:
            return admin.at_time(places, options["from_time"])
        starts, ends = admin.starts(places), admin.ends(places)
    if not options["offsets"]:
        return ends
    everywhere, given = _offsets(options["offsets"])
    if wrong := [number for number in given if (topic, number) not in ends]:
        raise PenstockError(f"--from-offset names partition {wrong[0]}, which is not read")
    chosen = {}
    for place in places:
        asked = given.get(place[1], everywhere)
        if asked is None:
            continue  # --from-offset 2:100 alone reads partition 2
        chosen[place] = min(max(asked, starts[place]), ends[place])
        if chosen[place] != asked:
            span = f"{starts[place]} to {ends[place]}"
            click.echo(f"{topic}[{place[1]}] has offsets {span}: reading from {chosen[place]}", err=True)
    return chosen


def _offsets(texts: tuple[str, ...]) -> tuple[int | None, dict[int, int]]:
    everywhere, given = None, {}
    for text in texts:
        partition, colon, offset = text.rpartition(":")
        try:
            if colon:
                given[int(partition)] = int(offset)
            else:
                everywhere = int(offset)
        except ValueError as exc:
            raise click.UsageError(f"--from-offset {text!r} is neither N nor PARTITION:N") from exc
    return everywhere, given


async def _run(
    broker: str, security: Security, topic: str, start: Any, printer: "_Printer", options: dict[str, Any]
) -> None:
    from penstock.agents.topics import Topic
    from penstock.deploy.clients.consumer import AT_ONCE, Consumer

    raw: Topic[Any, Any] = Topic(topic, key=bytes, value=_raw())
    closed = _closed_output()
    left = options["most"]
    async with Consumer(
        broker,
        raw,
        group=options["group"],
        start=start,
        until_end=options["until_end"],
        read_uncommitted=options["read_uncommitted"],
        security=security,
    ) as consumer:
        while not closed() and left != 0:
            records = await consumer.take(LOOK_SECONDS, min(AT_ONCE, left or AT_ONCE))
            if left is not None:
                left -= len(records)
            printer.print(records)
            if records and options["group"]:
                await consumer.commit()
            if consumer.ended:
                return


def _raw() -> Any:
    from dataclasses import replace

    from penstock.tables.serdes import serde_of

    return replace(serde_of(bytes), nullable=True)


def _closed_output() -> Callable[[], bool]:
    """Tells whether the reader of a pipe is gone, which a write would only find out with the next record."""
    try:
        number = sys.stdout.fileno()
    except (OSError, ValueError, AttributeError):
        return lambda: False
    poll = select.poll()
    poll.register(number, 0)
    return lambda: any(event & select.POLLERR for _, event in poll.poll(0))


def _quiet_exit() -> None:
    """Nobody reads any more: what Python would still write at its end goes nowhere."""
    import os

    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _Printer:
    """Records as lines.

    Attributes:
        undecodable: how many records were not of the declared type.
    """

    def __init__(self, declared: Any, *, keys: bool, headers: bool, timestamps: bool, as_json: bool) -> None:
        self._declared, self._keys, self._headers, self._timestamps = declared, keys, headers, timestamps
        self._line = self._json if as_json else self._text
        self.undecodable = 0

    def print(self, records: list[Any]) -> None:
        """Write them and pass them on at once."""
        if records:
            sys.stdout.write("".join([self._line(record) for record in records]))
            sys.stdout.flush()

    def _decoded(self, record: Any) -> tuple[Any, Any, str | None]:
        """Key and value as JSON has them, and what is wrong with them."""
        if self._declared is None:
            return _text(record.key), _text(record.value), None
        found: list[Any] = []
        wrong = None
        for part, serde in (("key", self._declared.key_serde), ("value", self._declared.value_serde)):
            data = getattr(record, part)
            try:
                if data is None and part == "value" and not serde.nullable:
                    raise ValueError("null")
                found.append(None if data is None else _plain(serde.decode(data)))
            except Exception as exc:  # whatever a codec raises
                found.append(_text(data))
                wrong = (
                    wrong or f"{record.topic}[{record.partition}]@{record.offset}: {part} is not {serde.name}: {exc}"
                )
        if wrong:
            self.undecodable += 1
        return found[0], found[1], wrong

    def _text(self, record: Any) -> str:
        key, value, wrong = self._decoded(record)
        if wrong:
            sys.stdout.flush()
            click.echo(f"undecodable: {wrong}", err=True)
        columns = []
        if self._timestamps:
            columns.append(iso(record.timestamp))
        if self._headers:
            columns.append(",".join(f"{name}={_shown(data)}" for name, data in record.headers) or "-")
        if self._keys:
            columns.append(_column(key))
        columns.append(_column(value))
        return "\t".join(columns) + "\n"

    def _json(self, record: Any) -> str:
        import json

        key, value, wrong = self._decoded(record)
        row = {
            "topic": record.topic,
            "partition": record.partition,
            "offset": record.offset,
            "timestamp": record.timestamp,
            "key": key,
            "value": value,
            "headers": [[name, _text(data)] for name, data in record.headers],
        }
        return json.dumps(row | ({"error": wrong} if wrong else {}), ensure_ascii=False, default=_base64) + "\n"


def _text(data: bytes | None) -> Any:
    """Bytes as text where they are."""
    if data is None:
        return None
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


def _plain(value: Any) -> Any:
    """A decoded value as JSON has it."""
    from penstock.deploy.commands.typed import plain

    return _text(value) if isinstance(value, bytes) else plain(value)


def _column(value: Any) -> str:
    import json

    if isinstance(value, bytes):
        return _shown(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _shown(data: bytes | None) -> str:
    return "null" if data is None else data.decode(errors="backslashreplace")


def _base64(data: bytes) -> dict[str, str]:
    import base64

    return {"base64": base64.b64encode(data).decode()}
