"""`penstock dead-letters`: records that failed, why, and back to where they came from."""

from typing import TYPE_CHECKING, Any

import click

from penstock.agents.security import Security
from penstock.deploy.commands.options import broker_option, iso, json_option, told

if TYPE_CHECKING:
    from penstock.deploy.letters import Letter

SHOWN_CHARS = 100
"""Of a message in a list."""

group_option = click.option("--group", required=True, help="The group whose letters they are.")


@click.group("dead-letters")
def dead_letters() -> None:
    """Dead letters of a pipeline's group: list, show, replay."""


def _group(module: str, name: str) -> Any:
    """Topology and group, which has dead letters."""
    from penstock.deploy.modules import load_pipeline
    from penstock.deploy.preflight import known_group
    from penstock.tables.errors import PenstockError

    topology = load_pipeline(module).topology
    group = topology.group(known_group(topology, name))
    if not group.dead_letters:
        raise PenstockError(f"group {group.app_id} has no dead letters: no stream of it is declared with DeadLetter()")
    return topology, group


def _places(admin: Any, group: Any) -> list[tuple[str, int]]:
    """Partitions of the group's dead-letter topics; those of topics that no worker has made yet are left out."""
    there = {topic.name: topic.partitions for topic in admin.topics()}
    return [(t.name, number) for t in group.dead_letters for number in range(there.get(t.name, 0))]


@dead_letters.command("list")
@click.argument("module")
@group_option
@click.option("--max", "most", type=click.IntRange(1), default=20, show_default=True, help="So many of the newest.")
@broker_option
@json_option
@told
def list_letters(module: str, group: str, most: int, broker: str, security: Security, as_json: bool) -> None:
    """List the newest dead letters: when, which record, in which step, why."""
    import asyncio

    from penstock.deploy.commands.admin import connected
    from penstock.deploy.commands.output import print_json, print_table
    from penstock.deploy.letters import newest

    _, found = _group(module, group)
    with connected(broker, security) as admin:
        places = _places(admin, found)
        starts, ends = admin.starts(places), admin.ends(places)
    letters = asyncio.run(newest(broker, security, found.app_id, starts, ends, most))
    if as_json:
        print_json([_told(letter) for letter in letters])
        return
    rows = [
        (
            letter.name,
            iso(letter.time),
            f"{letter.topic}[{letter.partition}]@{letter.offset}",
            letter.step,
            letter.error,
            _short(letter.message),
        )
        for letter in letters
    ]
    print_table(("letter", "time", "record", "step", "error", "message"), rows)


def _short(message: str) -> str:
    line = " ".join(message.split())
    return line if len(line) <= SHOWN_CHARS else line[: SHOWN_CHARS - 3] + "..."


def _told(letter: "Letter") -> dict[str, Any]:
    return {
        "letter": letter.name,
        "in": letter.record.topic,
        "time": letter.time,
        "topic": letter.topic,
        "partition": letter.partition,
        "offset": letter.offset,
        "group": letter.group,
        "step": letter.step,
        "error": letter.error,
        "message": letter.message,
        "result": letter.result,
    }


@dead_letters.command()
@click.argument("module")
@click.argument("letter", metavar="PARTITION:OFFSET")
@group_option
@click.option("--topic", help="The dead-letter topic, where the group has several.")
@broker_option
@json_option
@told
def show(
    module: str, letter: str, group: str, topic: str | None, broker: str, security: Security, as_json: bool
) -> None:
    """Show one dead letter whole: the record as it was read, and what went wrong."""
    import asyncio

    from penstock.deploy.commands.admin import connected
    from penstock.deploy.commands.output import print_json
    from penstock.deploy.letters import read
    from penstock.tables.errors import PenstockError

    _, found = _group(module, group)
    partition, colon, offset = letter.partition(":")
    if not (colon and partition.isdecimal() and offset.isdecimal()):
        raise click.UsageError(f"{letter!r} is not PARTITION:OFFSET, as the list has it")
    name = topic or found.dead_letters[0].name
    place = name, int(partition)
    with connected(broker, security) as admin:
        there = place in _places(admin, found)
        end = admin.ends([place])[place] if there else 0
    letters = asyncio.run(read(broker, security, {place: int(offset)})) if int(offset) < end else []
    at = next((each for each in letters if each.record.offset == int(offset)), None)
    if at is None:
        raise PenstockError(f"{name}[{partition}] has no dead letter at offset {offset}")
    if as_json:
        print_json({**_told(at), **_record(at)})
        return
    for title, value in (*_told(at).items(), *_record(at).items()):
        click.echo(f"{title + ':':<11}{iso(value) if title in ('time', 'timestamp') else _line(value)}")


def _record(letter: "Letter") -> dict[str, Any]:
    record = letter.record
    headers = [[name, _text(value)] for name, value in letter.headers]
    return {"key": _text(record.key), "value": _text(record.value), "timestamp": record.timestamp, "headers": headers}


def _line(value: Any) -> str:
    import json

    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _text(data: bytes | None) -> Any:
    import base64

    try:
        return None if data is None else data.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data or b"").decode()}


@dead_letters.command()
@click.argument("module")
@group_option
@click.option("--to", "to", metavar="TOPIC", help="Send all of them to this topic instead.")
@click.option("--dry-run", is_flag=True, help="Only say what would be sent.")
@broker_option
@json_option
@told
def replay(
    module: str, group: str, to: str | None, dry_run: bool, broker: str, security: Security, as_json: bool
) -> None:
    """Send the dead letters that were not sent back yet to the topic that each was read from, as they were.

    Only to a topic that no other consumer group reads, a repartition topic of the group included; --to names another.
    The group takes such a record through all of its steps again, those that went well included. Results that belong to
    no record stay where they are.
    """
    import asyncio

    from penstock.deploy.commands.admin import connected
    from penstock.deploy.commands.output import print_json, print_table
    from penstock.deploy.letters import Replay, read, replay_group, target

    topology, found = _group(module, group)
    with connected(broker, security) as admin:
        places = _places(admin, found)
        starts, ends = admin.starts(places), admin.ends(places)
        known = admin.committed(replay_group(found))
        begins = {place: max(starts[place], known.get(place, 0)) for place in places}
        waiting = {place: at for place, at in begins.items() if at < ends[place]}
        letters = asyncio.run(read(broker, security, waiting)) if waiting else []
        mine = [letter for letter in letters if letter.group == found.app_id and not letter.result]
        sources = dict.fromkeys(letter.topic for letter in mine)
        readers = _readers(admin, sources) if sources and to is None else {}
        targets = {source: to or target(topology, found, source, readers[source]) for source in sources}
        counts = {name: len(parts) for name, parts in admin.partitions(list(dict.fromkeys(targets.values()))).items()}
    if dry_run:
        records = {(letter.topic, letter.partition, letter.offset) for letter in mine}
        sent: dict[str, int] = {}
        for source, _, _ in records:
            sent[targets[source]] = sent.get(targets[source], 0) + 1
    else:
        sent = asyncio.run(Replay(broker, security, found, targets, counts).run(waiting, ends)) if waiting else {}
    if as_json:
        print_json({"group": found.app_id, "dry_run": dry_run, "sent": sent})
        return
    title = f"{found.app_id}: {'would be sent (dry run)' if dry_run else 'sent'}"
    print_table(("topic", "records"), sorted(sent.items()), title)


def _readers(admin: Any, topics: Any) -> dict[str, list[str]]:
    """Topic -> consumer groups that have committed offsets of it."""
    found: dict[str, list[str]] = {topic: [] for topic in topics}
    for info in admin.groups():
        for topic in {topic for topic, _ in admin.committed(info.name)}:
            if topic in found:
                found[topic].append(info.name)
    return found
