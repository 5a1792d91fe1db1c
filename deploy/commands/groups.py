"""`penstock groups`: list, describe, reset, delete."""

from typing import Any

import click

from penstock.agents.security import Security
from penstock.deploy.commands.options import (
    Time,
    broker_option,
    group_names,
    json_option,
    partition_list,
    told,
    topic_names,
)

CHANGELOG = "-changelog"
"""How the topics end that back a group's tables. Their positions are kept beside the tables, not committed."""


@click.group()
def groups() -> None:
    """Consumer groups of a broker: list, describe, reset, delete."""


@groups.command("list")
@broker_option
@json_option
@told
def list_groups(broker: str, security: Security, as_json: bool) -> None:
    """List the consumer groups."""
    from penstock.deploy.commands.admin import connected
    from penstock.deploy.commands.output import print_json, print_table

    with connected(broker, security) as admin:
        found = admin.groups()
    if as_json:
        print_json([{"group": g.name, "state": g.state or None, "type": g.kind or None} for g in found])
    else:
        print_table(("group", "state", "type"), [(g.name, g.state or None, g.kind or None) for g in found])


@groups.command()
@click.argument("group", shell_complete=group_names)
@broker_option
@json_option
@told
def describe(group: str, broker: str, security: Security, as_json: bool) -> None:
    """Offset, end, lag, member, client and host of each partition; the group's state and protocol."""
    from penstock.deploy.commands.admin import connected
    from penstock.deploy.commands.output import print_json, print_table

    with connected(broker, security) as admin:
        detail = admin.group(group)
        rows = _rows(admin, detail)
    members = [
        {"member": m.id, "client": m.client, "host": m.host, "instance": m.instance, "partitions": len(m.assigned)}
        for m in detail.members
    ]
    lag = sum(row["lag"] or 0 for row in rows)
    if as_json:
        head = {"group": group, "state": detail.state, "protocol": detail.protocol or None, "lag": lag}
        print_json({**head, "members": members, "partitions": rows})
        return
    title = f"{group}: {detail.state}, {detail.protocol or 'no protocol'}, {len(members)} members, lag {lag:,}"
    columns = ("topic", "partition", "offset", "end", "lag", "member", "client", "host")
    shown = [
        tuple("changelog" if column == "offset" and row["kind"] == "changelog" else row[column] for column in columns)
        for row in rows
    ]
    print_table(columns, shown, title)
    if idle := [m["member"] for m in members if not m["partitions"]]:
        click.echo(f"without partitions: {', '.join(map(str, idle))}")


def _rows(admin: Any, detail: Any) -> list[dict[str, Any]]:
    """A row for each partition that has a committed offset or a member."""
    committed = admin.committed(detail.name)
    owners = {place: member for member in detail.members for place in member.assigned}
    places = sorted(committed.keys() | owners.keys())
    there = {topic.name: topic.partitions for topic in admin.topics()}
    ends = admin.ends([place for place in places if place[1] < there.get(place[0], 0)])
    rows = []
    for place in places:
        offset, end, owner = committed.get(place), ends.get(place), owners.get(place)
        rows.append(
            {
                "topic": place[0],
                "partition": place[1],
                "kind": "changelog" if offset is None and place[0].endswith(CHANGELOG) else "read",
                "offset": offset,
                "end": end,
                "lag": None if offset is None or end is None else max(0, end - offset),
                "member": owner.id if owner else None,
                "client": owner.client if owner else None,
                "host": owner.host if owner else None,
            }
        )
    return rows


@groups.command()
@click.argument("group", shell_complete=group_names)
@click.option(
    "--topic",
    "topics",
    multiple=True,
    required=True,
    metavar="TOPIC[:PARTITIONS]",
    shell_complete=topic_names,
    help="Whose offsets, as flights or flights:0,2-3; may be repeated.",
)
@click.option("--to-earliest", is_flag=True, help="To the first record.")
@click.option("--to-latest", is_flag=True, help="Behind the last record.")
@click.option("--to-offset", type=click.IntRange(0), help="To this offset.")
@click.option("--to-time", type=Time(), help="To the first record as young as that; UTC without a zone.")
@click.option("--shift-by", type=int, help="By so many, back where negative.")
@click.option("--dry-run", is_flag=True, help="Only show it.")
@broker_option
@json_option
@told
def reset(
    group: str, topics: tuple[str, ...], dry_run: bool, broker: str, security: Security, as_json: bool, **to: Any
) -> None:
    """Set the offsets where a group goes on. It must have no members."""
    from penstock.deploy.commands.admin import connected
    from penstock.deploy.commands.output import print_json, print_table

    chosen = [(name, value) for name, value in to.items() if value is not None and value is not False]
    if len(chosen) != 1:
        raise click.UsageError("say where to, once: --to-earliest, --to-latest, --to-offset, --to-time or --shift-by")
    with connected(broker, security) as admin:
        _refuse_members(admin, group)
        places = _places(admin, topics)
        before = admin.committed(group)
        after = _targets(admin, places, before, *chosen[0])
        if not dry_run:
            admin.commit(group, after)
    rows = [(*place, before.get(place), after[place]) for place in places]
    if as_json:
        changes = [{"topic": t, "partition": p, "before": old, "after": new} for t, p, old, new in rows]
        print_json({"group": group, "dry_run": dry_run, "partitions": changes})
        return
    title = f"{group}: {'would be reset (dry run)' if dry_run else 'reset'}"
    print_table(("topic", "partition", "before", "after"), rows, title)


def _refuse_members(admin: Any, group: str) -> None:
    """A group may be new: then it gets its first offsets. One with members would overwrite them."""
    from penstock.tables.errors import PenstockError

    state = {known.name: known.state for known in admin.groups()}
    if group not in state:
        return
    members = admin.group(group).members
    if members or state[group] not in ("", "Empty", "Dead"):
        who = ", ".join(f"{m.client} at {m.host}" for m in members) or state[group]
        raise PenstockError(f"group {group!r} has members ({who}): stop them first, they would overwrite the offsets")


def _places(admin: Any, topics: tuple[str, ...]) -> list[tuple[str, int]]:
    from penstock.tables.errors import PenstockError

    wanted = [spec.partition(":") for spec in topics]
    counts = {name: len(ps) for name, ps in admin.partitions([name for name, _, _ in wanted]).items()}
    places: dict[tuple[str, int], None] = {}
    for name, colon, text in wanted:
        try:
            numbers = partition_list(text) if colon else range(counts[name])
        except ValueError as exc:
            raise PenstockError(f"{text!r} of {name!r} are not partitions such as 0,2-3") from exc
        if wrong := [number for number in numbers if number >= counts[name]]:
            raise PenstockError(f"topic {name!r} has partitions 0 to {counts[name] - 1}, not {wrong[0]}")
        places |= dict.fromkeys((name, number) for number in numbers)
    return sorted(places)


def _targets(
    admin: Any, places: list[tuple[str, int]], before: dict[tuple[str, int], int], how: str, value: Any
) -> dict[tuple[str, int], int]:
    """Where each partition goes on, never outside of what it holds."""
    from penstock.tables.errors import PenstockError

    starts, ends = admin.starts(places), admin.ends(places)
    if how == "to_earliest":
        return dict(starts)
    if how == "to_latest":
        return dict(ends)
    if how == "to_time":
        found: dict[tuple[str, int], int] = admin.at_time(places, value)
        return found
    if how == "shift_by" and (missing := [place for place in places if place not in before]):
        topic, partition = missing[0]
        raise PenstockError(f"{topic}[{partition}] has no committed offset to shift: say --to-offset or --to-earliest")
    wanted = {place: value if how == "to_offset" else before[place] + value for place in places}
    return {place: min(max(at, starts[place]), ends[place]) for place, at in wanted.items()}


@groups.command()
@click.argument("names", nargs=-1, required=True, metavar="GROUP...", shell_complete=group_names)
@broker_option
@json_option
@told
def delete(names: tuple[str, ...], broker: str, security: Security, as_json: bool) -> None:
    """Delete groups without members, and their offsets."""
    from penstock.deploy.commands.admin import connected
    from penstock.deploy.commands.output import print_json
    from penstock.deploy.commands.topics import tell_deleted

    reasons = {
        "NonEmptyGroupError": "it has members: stop them first",
        "GroupIdNotFoundError": "there is no such group",
    }
    with connected(broker, security) as admin:
        results = admin.delete_groups(tuple(dict.fromkeys(names)))
    told_results = {name: error and reasons.get(error, error) for name, error in results.items()}
    tell_deleted(told_results, as_json, "group", print_json)
