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

_PIPE_WIDTH = 240
"""Columns of a table that no terminal shows: wide enough for grep."""

console = Console(highlight=False, width=None if sys.stdout.isatty() else _PIPE_WIDTH)
errors = Console(stderr=True, highlight=False)


def print_json(row: Any) -> None:
    """Print one JSON line."""
    sys.stdout.write(orjson.dumps(row).decode() + "\n")
    sys.stdout.flush()


def print_table(columns: list[str], rows: Iterable[Iterable[object]], empty: str) -> None:
    """Print rows as a table, or the sentence `empty` where there are none."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    *names, last = columns
    for name in names:
        table.add_column(name, no_wrap=True)
    table.add_column(last, overflow="fold")
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
