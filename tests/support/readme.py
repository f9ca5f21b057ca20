"""Pages whose every code block is followed: what a block's info string says of how, and how outputs are compared.

A block's info string is a language and, after it, attributes that no reader sees on the rendered page:

    ```yaml title="x.yaml"      written to the file x.yaml, for later blocks
    ```console                  commands, each with the output it must have; `fails`: their exit code is not 0
    ```sh background            started, and left running
    ```sh dry-run               `make` commands, which only show what they would do
    ```text shows="timeline"    checked by the test that knows the word
    ```sh not-run="needs Docker"
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

_FENCE = "```"
_ANY = "…"
# What differs from run to run is written in full on the page, as people see it, and compared by its form alone.
_FORMS = (
    (re.compile(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"), "<uuid>"),
    (re.compile(r"\b\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\b"), "<time>"),
    (re.compile(r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"), "<time>"),
)


@dataclass(frozen=True)
class Block:
    """One fenced block of a page."""

    page: Path
    line: int
    """Of its first line of code."""
    language: str
    attributes: Mapping[str, str]
    """A word without a value has the empty one."""
    text: str

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


@dataclass(frozen=True)
class Command:
    """One command of a console block, and the lines that it must print."""

    line: int
    text: str
    output: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """One table of a page, by its header's cells."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def blocks(page: Path) -> list[Block]:
    """Return the fenced blocks of a page, in order."""
    found: list[Block] = []
    opened: tuple[int, str] | None = None
    code: list[str] = []
    for number, line in enumerate(page.read_text().splitlines(), 1):
        if opened is None and line.startswith(_FENCE):
            opened, code = (number + 1, line.removeprefix(_FENCE)), []
        elif opened is not None and line == _FENCE:
            language, *words = shlex.split(opened[1])
            pairs = (word.partition("=") for word in words)
            attributes = {name: value for name, _, value in pairs}
            found.append(Block(page, opened[0], language, attributes, "\n".join(code) + "\n"))
            opened = None
        elif opened is not None:
            code.append(line)
    assert opened is None, f"{page.name}:{opened[0]}: the block does not end"
    return found


def commands(block: Block) -> Iterator[Command]:
    """Return a console block's commands; a line that ends in a backslash goes on in the next."""
    lines = block.text.splitlines()
    assert lines[0].startswith("$ "), f"{block}: a console block begins with a command"
    at = 0
    while at < len(lines):
        first, text = at, lines[at].removeprefix("$ ")
        while text.endswith("\\"):
            at += 1
            text = f"{text}\n{lines[at]}"
        at += 1
        output = []
        while at < len(lines) and not lines[at].startswith("$ "):
            output.append(lines[at])
            at += 1
        yield Command(block.line + first, text, tuple(output))


def matches(expected: tuple[str, ...], printed: str) -> bool:
    """Whether a program printed these lines, but for what `…` stands for, the forms above, and the width of gaps."""
    actual = [_plain(line) for line in printed.splitlines()]
    wanted = [_plain(line) for line in expected]
    return len(actual) == len(wanted) and all(map(line_matches, wanted, actual))


def line_matches(wanted: str, actual: str) -> bool:
    """Whether a text is the wanted one, in which `…` stands for anything."""
    return re.fullmatch(".*".join(map(re.escape, wanted.split(_ANY))), actual) is not None


def value_matches(wanted: object, actual: object) -> bool:
    """Whether a value from YAML or JSON holds what is wanted, in which `…` stands for anything inside a text."""
    if isinstance(wanted, dict):
        return isinstance(actual, dict) and all(
            name in actual and value_matches(value, actual[name]) for name, value in wanted.items()
        )
    if isinstance(wanted, list):
        return isinstance(actual, list) and len(wanted) == len(actual) and all(map(value_matches, wanted, actual))
    if isinstance(wanted, str) and isinstance(actual, str):
        return line_matches(_plain(wanted), _plain(actual))
    return wanted == actual


def _plain(line: str) -> str:
    for form, name in _FORMS:
        line = form.sub(name, line)
    return " ".join(line.split())


def tables(page: Path) -> list[Table]:
    """Return the tables of a page."""
    found: list[Table] = []
    rows: list[tuple[str, ...]] = []
    for line in [*page.read_text().splitlines(), ""]:
        if line.startswith("|"):
            rows.append(tuple(cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]))
        elif rows:
            found.append(Table(rows[0], tuple(rows[2:])))
            rows = []
    return found


def table(page: Path, first: str) -> Table:
    """Return the one table whose first column has this header."""
    (found,) = (one for one in tables(page) if one.header[0] == first)
    return found


def quoted(text: str) -> list[str]:
    """Return what stands between backticks."""
    return re.findall(r"`([^`]+)`", text)


@dataclass(frozen=True)
class Mark:
    """Something on a timeline: in which row, at which minute."""

    row: str
    minute: int
    text: str


def timeline(block: Block) -> list[Mark]:
    """Read a timeline: a first row of minutes, and marks that begin in the column where their minute does."""
    header, *rows = block.text.splitlines()
    columns = {found.start(): int(found[0]) for found in re.finditer(r"\d+", header)}
    marks = []
    for row in rows:
        name, *places = re.finditer(r"\S+", row)
        marks += [Mark(name[0], columns[place.start()], place[0]) for place in places]
    return marks
