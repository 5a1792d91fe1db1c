"""Answers as tables for people, as JSON for scripts."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

import click


def print_json(data: Any) -> None:
    """One JSON document, in the order given."""
    click.echo(json.dumps(data, indent=2, ensure_ascii=False))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], title: str | None = None) -> None:
    """A table: numbers to the right, None as a dash. In a pipe it is as wide as it needs to be."""
    from rich import box
    from rich.console import Console
    from rich.measure import Measurement
    from rich.table import Table
    from rich.text import Text

    cells = [list(row) for row in rows]
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", title_style="bold", pad_edge=False)
    for at, column in enumerate(columns):
        numbers = all(row[at] is None or isinstance(row[at], int) for row in cells)
        table.add_column(column, justify="right" if numbers and cells else "left", overflow="fold")
    for row in cells:
        table.add_row(*(Text("-" if cell is None else str(cell)) for cell in row))
    console = Console(highlight=False)
    if not console.is_terminal:
        wide = console.options.update(width=100_000)
        console.width = max(console.width, Measurement.get(console, wide, table).maximum)
    console.print(table)


def listed(items: Iterable[Any]) -> str:
    """Items with commas between; a dash for none."""
    return ",".join(str(item) for item in items) or "-"


def size_text(size: int | None) -> str | None:
    """Bytes as people read them."""
    if size is None:
        return None
    amount = float(size)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"
