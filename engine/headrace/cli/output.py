"""How the command line speaks: tables for people, JSON Lines for programs, sentences on stderr."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import Any

import orjson
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from headrace.model.times import instant_text

console = Console(highlight=False)
errors = Console(stderr=True, highlight=False)


def print_json(row: Any) -> None:
    """Print one JSON line."""
    sys.stdout.write(orjson.dumps(row).decode() + "\n")
    sys.stdout.flush()


def print_table(columns: Iterable[str], rows: Iterable[Iterable[object]], empty: str) -> None:
    """Print rows as a table, or the sentence `empty` where there are none."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(escape(str(cell)) for cell in row))
    if table.row_count:
        console.print(table)
    else:
        errors.print(empty)


def say(sentence: str) -> None:
    """Print a sentence on stderr, where it does not mix with what a program reads."""
    errors.print(escape(sentence), soft_wrap=True)


def clock(time_ms: int) -> str:
    """Write a time for a table."""
    return instant_text(time_ms)[:19].replace("T", " ")


def pairs(values: Mapping[str, str]) -> str:
    """Write parameters on one line."""
    return " ".join(f"{name}={_short(value)}" for name, value in values.items())


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}…"
