"""`penstock tables`: what a pipeline's tables hold, and whether it is what their changelogs say."""

import sys
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import click

from penstock.agents.security import Security
from penstock.deploy.commands.options import broker_option, json_option, told

SHOWN = 10
"""Differences that `verify` prints of each partition."""


F = TypeVar("F", bound=Callable[..., Any])


def _options() -> Callable[[F], F]:
    def add(fn: F) -> F:
        for option in (
            click.option("--slot", envvar="PENSTOCK_SLOT", help="Only this worker's stores."),
            click.option("--group", "groups", multiple=True, help="Only this group; may be repeated."),
            click.option("--data", envvar="PENSTOCK_DATA", type=click.Path(file_okay=False), help="Folder for tables."),
        ):
            fn = option(fn)
        return fn

    return add


@click.group()
def tables() -> None:
    """Tables of a pipeline on this machine: list, get, scan; verify against their changelogs; restore."""


def _parts(module: str, data: str | None, groups: tuple[str, ...], slot: str | None, table: str | None = None) -> Any:
    from penstock.deploy.modules import load_pipeline
    from penstock.deploy.preflight import known_group
    from penstock.deploy.settings import Settings
    from penstock.deploy.stored import stored_parts

    topology = load_pipeline(module).topology
    names = [known_group(topology, name) for name in groups]
    return stored_parts(topology, Settings.of(data=data).data, groups=names, slot=slot, table=table)


def _some(parts: list[Any], data: str | None) -> list[Any]:
    from penstock.deploy.settings import Settings
    from penstock.tables.errors import PenstockError

    if not parts:
        folder = Settings.of(data=data).data
        raise PenstockError(f"no store of it in {folder}: name the workers' folder (--data), or another --slot")
    return parts


@tables.command("list")
@click.argument("module")
@_options()
@broker_option
@json_option
@told
def list_tables(
    module: str,
    data: str | None,
    groups: tuple[str, ...],
    slot: str | None,
    broker: str,
    security: Security,
    as_json: bool,
) -> None:
    """Partitions, rows, bytes on disk, and the position beside the changelog's end."""
    import asyncio

    from penstock.deploy.commands.output import print_json, print_table, size_text

    parts = _parts(module, data, groups, slot)
    ends = asyncio.run(_ends(broker, security, parts))
    rows = []
    for part in parts:
        with part.reading() as held:
            position, count = held.position, len(held.store)
        end = ends.get((part.changelog, part.partition))
        rows.append(
            {
                "group": part.group.app_id,
                "table": part.table.name,
                "partition": part.partition,
                "slot": part.slot,
                "rows": count,
                "bytes": part.size_bytes(),
                "position": position,
                "end": end,
                "behind": None if end is None else max(0, end - position),
            }
        )
    if as_json:
        print_json(rows)
    else:
        columns = ("group", "table", "partition", "slot", "rows", "bytes", "position", "end", "behind")
        shown = [tuple(size_text(r[c]) if c == "bytes" else r[c] for c in columns) for r in rows]
        print_table(columns, shown)


async def _ends(broker: str, security: Security, parts: list[Any]) -> dict[tuple[str, int], int]:
    from penstock.deploy.changelogs import Changelogs

    async with Changelogs(broker, security) as changelogs:
        return await changelogs.ends(sorted({(part.changelog, part.partition) for part in parts}))


@tables.command()
@click.argument("module")
@click.argument("table")
@click.argument("key")
@_options()
@json_option
@told
def get(
    module: str, table: str, key: str, data: str | None, groups: tuple[str, ...], slot: str | None, as_json: bool
) -> None:
    """The row of KEY, which is JSON (a text needs no quotes); of a table of sets, its members. Exit code 1: none."""
    from penstock.deploy.commands.output import print_json
    from penstock.deploy.commands.typed import plain
    from penstock.deploy.stored import newest

    parts = newest(_some(_parts(module, data, groups, slot, table), data))
    for part in parts:
        if part.table.set_key is not None:
            if members := _members(part, key):
                print_json(members)
                return
            continue
        raw = _key(part, key)
        with part.reading() as held:
            row = held.load((raw,))[raw]
        shown = None if row is None else part.table.view(row)
        if shown is not None:
            value = plain(shown)
            if as_json:
                print_json({"key": plain(part.table.key.decode(raw)), "value": value, "partition": part.partition})
            else:
                print_json(value)
            return
    click.echo(f"table {table!r} has no row {key}", err=True)
    sys.exit(1)


def _members(part: Any, key: str) -> list[Any]:
    from penstock.deploy.commands.typed import plain
    from penstock.tables.partition import prefix_end

    first = _key(part, key)
    prefix = len(first).to_bytes(4) + first
    with part.reading() as held:
        return [plain(part.table.key.decode(raw)[1]) for raw, _ in held.items(prefix, prefix_end(prefix))]


def _key(part: Any, text: str) -> bytes:
    """A key as its table's codec has it, from JSON; a text may come without its quotes."""
    from penstock.deploy.commands.typed import Reader
    from penstock.tables.errors import PenstockError

    serde = part.table.set_key or part.table.key
    try:
        return bytes(serde.encode(Reader(serde).json(text.encode())))
    except Exception as exc:
        try:
            return bytes(serde.encode(serde.decode(text.encode())))
        except Exception:
            what = f"{text!r} is no key of table {part.table.name!r}, whose keys are {serde.name}: {exc}"
            raise PenstockError(f"{what}. Give it as JSON") from exc


@tables.command()
@click.argument("module")
@click.argument("table")
@click.option("--from", "start", help="The first key, as JSON.")
@click.option("--to", "end", help="The key before which it ends, as JSON.")
@click.option("--prefix", help="Only keys whose encoded form begins with this text.")
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="At most so many rows.")
@_options()
@json_option
@told
def scan(
    module: str,
    table: str,
    start: str | None,
    end: str | None,
    prefix: str | None,
    limit: int,
    data: str | None,
    groups: tuple[str, ...],
    slot: str | None,
    as_json: bool,
) -> None:
    """Rows by partition, in the order of the encoded keys."""
    from itertools import islice

    from penstock.deploy.commands.output import print_json, print_table
    from penstock.deploy.stored import newest

    parts = newest(_some(_parts(module, data, groups, slot, table), data))
    rows = list(islice(_scanned(parts, start, end, prefix), limit))
    found = [{"partition": part.partition, **_shown(part, raw, row)} for part, raw, row in rows]
    if as_json:
        print_json(found)
        return
    import json

    shown = [(r["partition"], *(json.dumps(r[c], ensure_ascii=False) for c in ("key", "value"))) for r in found]
    print_table(("partition", "key", "value"), shown)


def _shown(part: Any, raw: bytes, row: Any) -> dict[str, Any]:
    """A row as it is printed; of a table of sets, a member."""
    from penstock.deploy.commands.typed import plain

    key, value = part.table.key.decode(raw), part.table.view(row)
    if part.table.set_key is not None:
        key, value = key
    return {"key": plain(key), "value": plain(value)}


def _scanned(
    parts: list[Any], start: str | None, end: str | None, prefix: str | None
) -> Iterator[tuple[Any, bytes, Any]]:
    from penstock.tables.errors import PenstockError
    from penstock.tables.partition import prefix_end

    for part in parts:
        if part.table.set_key is not None and (start, end, prefix) != (None, None, None):
            raise PenstockError(f"table {part.table.name!r} is one of sets; `penstock tables get` gives one of them")
        first = b"" if start is None else _key(part, start)
        last = None if end is None else _key(part, end)
        if prefix is not None:
            first, behind = max(first, prefix.encode()), prefix_end(prefix.encode())
            last = behind if last is None or (behind is not None and behind < last) else last
        with part.reading() as held:
            for raw, row in held.items(first, last):
                yield part, raw, row


@tables.command()
@click.argument("module")
@click.option("--table", help="Only this table.")
@_options()
@broker_option
@json_option
@told
def verify(
    module: str, table: str | None, data: str | None, groups: tuple[str, ...], slot: str | None, broker: str,
    security: Security, as_json: bool,
) -> None:  # fmt: skip
    """Compare stores with their changelogs, row by row up to each store's position. Exit code 1: some differ."""
    import asyncio

    from penstock.deploy.commands.output import print_json, print_table

    parts = _some(_parts(module, data, groups, slot, table), data)
    found = asyncio.run(_verified(broker, security, parts))
    rows = [
        {
            "group": part.group.app_id,
            "table": part.table.name,
            "partition": part.partition,
            "slot": part.slot,
            "rows": result.rows,
            "position": result.position,
            "end": result.end,
            "undecided": result.undecided,
            "differences": len(result.differences),
        }
        for part, result in found
    ]
    if as_json:
        first = [[_told(part, each) for each in result.differences[:SHOWN]] for part, result in found]
        print_json([{**row, "first": each} for row, each in zip(rows, first, strict=True)])
    else:
        columns = tuple(rows[0])
        print_table(columns, [tuple(row.values()) for row in rows])
        for part, result in found:
            for each in result.differences[:SHOWN]:
                told = _told(part, each)
                where = f"{part.path.name}[{part.slot}]"
                click.echo(f"{where} key {told['key']}: store {told['store']}, changelog {told['changelog']}")
    sys.exit(1 if any(result.differences for _, result in found) else 0)


async def _verified(broker: str, security: Security, parts: list[Any]) -> list[tuple[Any, Any]]:
    from penstock.deploy.changelogs import Changelogs, verify

    async with Changelogs(broker, security) as changelogs:
        return [(part, await verify(part, changelogs)) for part in parts]


def _told(part: Any, difference: Any) -> dict[str, Any]:
    """A difference with the key as it is written, and rows as text."""

    def text(data: bytes | None) -> str | None:
        return None if data is None else data[:200].decode(errors="backslashreplace")

    return {"key": text(difference.key), "store": text(difference.store), "changelog": text(difference.changelog)}


@tables.command()
@click.argument("module")
@click.option("--table", help="Only this table.")
@click.option("--partition", type=click.IntRange(0), help="Only this partition.")
@_options()
@broker_option
@json_option
@told
def restore(
    module: str, table: str | None, partition: int | None, data: str | None, groups: tuple[str, ...],
    slot: str | None, broker: str, security: Security, as_json: bool,
) -> None:  # fmt: skip
    """Delete the stores of stopped workers and build them from their changelogs."""
    import asyncio

    from penstock.deploy.commands.output import print_json, print_table

    parts = _parts(module, data, groups, slot, table)
    parts = _some([part for part in parts if partition in (None, part.partition)], data)
    rows = asyncio.run(_restored(broker, security, parts))
    if as_json:
        print_json(rows)
    else:
        print_table(tuple(rows[0]), [tuple(row.values()) for row in rows])


async def _restored(broker: str, security: Security, parts: list[Any]) -> list[dict[str, Any]]:
    from penstock.deploy.changelogs import Changelogs, restore

    rows: list[dict[str, Any]] = []
    async with Changelogs(broker, security) as changelogs:
        for part in parts:
            count = await restore(part, changelogs)
            rows.append(
                {"group": part.group.app_id, "table": part.table.name, "partition": part.partition, "slot": part.slot,
                 "replayed": count}
            )  # fmt: skip
    return rows
