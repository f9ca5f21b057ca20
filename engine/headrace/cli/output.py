"""How the command line speaks: tables for people, JSON Lines for programs, sentences on stderr."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import Any

import orjson
from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.markup import escape

from headrace.model.times import instant_text

_PIPE_WIDTH = 240
"""Columns of what no terminal shows: wide enough for grep."""

# Payloads are shown as they are, so nothing in them may be taken for an emoji's name.
console = Console(highlight=False, emoji=False, width=None if sys.stdout.isatty() else _PIPE_WIDTH)
errors = Console(stderr=True, highlight=False, emoji=False)


def print_json(row: Any) -> None:
    """Print one JSON line."""
    sys.stdout.write(orjson.dumps(row).decode() + "\n")
    sys.stdout.flush()


def print_table(columns: list[str], rows: Iterable[Iterable[object]], empty: str) -> None:
    """Print rows as a table, or the sentence `empty` where there are none.

    Each row is one line however long, for grep; a narrow terminal wraps it, and cuts nothing off.
    """
    cells = [[" ".join(str(cell).splitlines()) for cell in row] for row in rows]
    if not cells:
        errors.print(empty)
        return
    widths = [max(cell_len(row[index]) for row in [columns, *cells]) for index in range(len(columns))]
    for row, style in [(columns, "bold"), *((row, None) for row in cells)]:
        line = "  ".join(set_cell_size(cell, width) for cell, width in zip(row, widths, strict=True))
        console.print(line.rstrip(), style=style, markup=False, soft_wrap=True)


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
