"""How the demo shows what happens: a live screen on a terminal, one line for each happening elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, Self

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.layout import Layout
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from headrace.cli.demo.board import Board, SeenRun, Waiting, payload_text
from headrace.cli.output import pairs
from headrace.model.run import RunState

REFRESH_INTERVAL_S = 0.25
ID_CHARACTERS_MAX = 10
WIDE_COLUMNS = 200
"""From this width on, what comes in stands beside what comes of it."""
_JOIN_ROWS_MIN, _JOIN_ROWS_MAX = 2, 6
_FRAME_ROWS = 3
"""A panel's two borders, and its table's header."""

_STYLES = {
    RunState.QUEUED: "yellow",
    RunState.STARTED: "cyan",
    RunState.SUCCEEDED: "green",
    RunState.FAILED: "bold red",
    RunState.REFUSED: "bold red",
    RunState.UNKNOWN: "bold red",
}


@dataclass(frozen=True, slots=True)
class Status:
    """What stands above it all."""

    elapsed_s: float
    published: int
    planned: int | None
    """Events to publish in all; None where there is no end."""
    ended: int
    expected: int
    doing: str
    """What is going on, in a few words."""


class Display(Protocol):
    """Shows the board, again and again."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def show(self, board: Board, status: Status) -> None:
        """Show what is there now; called several times a second."""


class Lines:
    """One line for each happening, for logs and pipes."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._doing = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def show(self, board: Board, status: Status) -> None:
        """Print what is new."""
        if status.doing != self._doing:
            self._doing = status.doing
            self._print("demo", status.doing)
        while board.news:
            news = board.news.popleft()
            self._print(news.kind, news.text)

    def _print(self, kind: str, text: str) -> None:
        self._console.print(f"{time.strftime('%H:%M:%S')} {kind:<6} {text}", markup=False, soft_wrap=True)


class Screen:
    """The whole terminal: events, joins that wait, runs."""

    def __init__(self, console: Console, hint: str) -> None:
        """Prepare; `hint` stands at the bottom."""
        self._hint = hint
        self._shown_s = 0.0
        self._live = Live(console=console, screen=True, auto_refresh=False, transient=True)

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.__exit__(None, None, None)

    def show(self, board: Board, status: Status) -> None:
        """Draw the screen anew, if it is time."""
        board.news.clear()
        if time.monotonic() - self._shown_s >= REFRESH_INTERVAL_S:
            self._shown_s = time.monotonic()
            self._live.update(self._draw(board, status), refresh=True)

    def _draw(self, board: Board, status: Status) -> RenderableType:
        events = Layout(_panel("events", _events(board)), ratio=2)
        waiting = board.waiting
        join_rows = min(max(len(waiting), _JOIN_ROWS_MIN), _JOIN_ROWS_MAX)
        joins = Layout(_panel("joins that wait", _joins(waiting)), size=join_rows + _FRAME_ROWS)
        runs = _panel("runs", _runs(board))
        body = Layout()
        if self._live.console.width >= WIDE_COLUMNS:
            left = Layout()
            left.split_column(events, joins)
            body.split_row(left, Layout(runs))
        else:
            body.split_column(events, joins, Layout(runs, ratio=3))
        bottom = Layout(Text(self._hint, style="dim"), size=self._hint.count("\n") + 1)
        whole = Layout()
        whole.split_column(Layout(_head(board, status), size=2), body, bottom)
        return whole


@dataclass(frozen=True, slots=True)
class _Newest:
    """A table of which as many rows are shown as there is room for: the last ones."""

    columns: tuple[tuple[str, int], ...]
    """Heading and share of the width; 0 for as wide as the text is."""
    rows: list[tuple[str | Text, ...]]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        room = (options.height or options.max_height) - 1
        table = Table(box=None, expand=True, pad_edge=False, header_style="dim")
        for heading, share in self.columns:
            table.add_column(heading, ratio=share or None, no_wrap=True, overflow="ellipsis")
        for row in self.rows[-room:] if room > 0 else ():
            table.add_row(*row)
        yield table


def _panel(title: str, table: _Newest) -> Panel:
    return Panel(table, title=title, title_align="left", border_style="blue")


def _head(board: Board, status: Status) -> RenderableType:
    minutes, seconds = divmod(int(status.elapsed_s), 60)
    states = [seen.run.state for seen in board.runs.values()]
    line = Text("Headrace demo", style="bold", no_wrap=True, overflow="ellipsis")
    line.append(f"  {minutes:02}:{seconds:02}  ", style="not bold dim")
    of_all = f" of {status.planned}" if status.planned is not None else ""
    line.append(
        f"{status.published}{of_all} events, {status.ended} of {status.expected} runs ended: ", style="not bold"
    )
    counts = [Text(f"{states.count(state)} {state}", style=_STYLES[state]) for state in RunState if state in states]
    counts += [Text(f"{len(board.letters)} set aside", style="red")] if board.letters else []
    line.append_text(Text(", ").join(counts) if counts else Text("none came yet"))
    return Group(line, Text(status.doing, style="italic", no_wrap=True, overflow="ellipsis"))


def _events(board: Board) -> _Newest:
    aside = {letter.event_id: letter for letter in board.letters}
    rows: list[tuple[str | Text, ...]] = []
    for seen in board.events:
        event = seen.event
        note = Text("again: changes nothing" if seen.again else "", style="yellow")
        if event.id in aside:
            note = Text(f"set aside: {aside[event.id].reason}", style="red")
        clock = time.strftime("%H:%M:%S", time.localtime(seen.seen_s))
        rows.append((clock, event.name, _short(event.id), payload_text(event), note))
    return _Newest((("came", 0), ("event", 0), ("id", 0), ("payload", 1), ("", 0)), rows)


def _joins(waiting: Iterable[Waiting]) -> _Newest:
    now_s = time.time()
    rows: list[tuple[str | Text, ...]] = [
        (
            join.trigger,
            join.key,
            ", ".join(_short(event_id) for _, event_id in join.holds),
            Text(", ".join(join.lacks), style="yellow"),
            f"{now_s - join.since_ms / 1000:.0f} s",
        )
        for join in waiting
    ]
    return _Newest((("trigger", 0), ("key", 0), ("holds", 1), ("waits for", 1), ("for", 0)), rows)


def _runs(board: Board) -> _Newest:
    rows: list[tuple[str | Text, ...]] = []
    for seen in sorted(board.runs.values(), key=_activity):
        run = seen.run
        style = _STYLES[run.state]
        source = "+".join(_short(event.id) for event in run.events)
        told = Text(run.message, style="dim") if run.message else pairs(run.parameters)
        rows.append((Text(run.state, style=style), run.trigger, source, told, _duration(seen)))
    return _Newest((("state", 0), ("trigger", 0), ("from", 0), ("parameters", 1), ("took", 0)), rows)


def _activity(seen: SeenRun) -> tuple[bool, bool, int]:
    """Sort what has ended first, then what runs, then what waits: there is room for the last rows only."""
    return (not seen.run.ended, seen.run.state is RunState.QUEUED, seen.ended_ms or seen.started_ms or seen.first_ms)


def _duration(seen: SeenRun) -> str:
    if seen.took_s is not None:
        return f"{seen.took_s:.1f} s"
    if seen.started_ms is not None:
        return f"{time.time() - seen.started_ms / 1000:.0f} s …"
    return ""


def _short(event_id: str) -> str:
    """Shorten what is too long for a column, as a UUID is."""
    return event_id if len(event_id) <= ID_CHARACTERS_MAX else f"{event_id[: ID_CHARACTERS_MAX - 1]}…"
