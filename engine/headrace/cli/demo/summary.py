"""The summary: what the demo says in the end."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from headrace.cli.demo.verdict import Finding
from headrace.cli.output import pairs

LOGS_SHOWN_MAX = 3
LOG_LINES_SHOWN = 20


def print_findings(console: Console, findings: Sequence[Finding]) -> None:
    """Print each run, as expected and as seen, with its times."""
    table = Table(box=None, pad_edge=False, header_style="bold", title="Expected and seen", title_justify="left")
    table.add_column("", no_wrap=True)
    for name in ("TRIGGER", "EVENTS"):
        table.add_column(name, no_wrap=True)
    table.add_column("PARAMETERS, AS THE FLOW SAW THEM", overflow="fold")
    for name in ("WAITED", "TOOK"):
        table.add_column(name, no_wrap=True, justify="right")
    for finding in findings:
        mark = "[green]ok[/green]" if finding.problem is None else "[bold red]no[/bold red]"
        saw = {name: str(value) for name, value in ((finding.seen and finding.seen.saw) or {}).items()}
        # Where the flow saw nothing, what was expected is all that there is to show.
        told = pairs(saw) if saw else f"(expected: {pairs({n: str(v) for n, v in finding.expected.items()})})"
        if finding.problem is not None:
            told = f"{told}\n{finding.problem}"
        times = [_seconds(finding.seen.waited_s), _seconds(finding.seen.took_s)] if finding.seen else ["", ""]
        table.add_row(mark, finding.trigger, " + ".join(finding.labels), escape(told), *times)
    console.print(table)


def print_times(console: Console, findings: Sequence[Finding]) -> None:
    """Print how long the runs took, if any has ended."""
    took_s = [finding.seen.took_s for finding in findings if finding.seen and finding.seen.took_s is not None]
    if took_s:
        console.print(f"A run took {median(took_s):.1f} s (median; {min(took_s):.1f} to {max(took_s):.1f} s).")


def print_logs(console: Console, findings: Sequence[Finding], roles_log: Path) -> None:
    """Print the ends of the logs that tell why runs failed."""
    failed = [f.seen.run for f in findings if f.problem is not None and f.seen is not None and f.seen.run.run]
    for run in failed[:LOGS_SHOWN_MAX]:
        print_tail(console, Path(run.run or ""))
    if not failed:
        # No run has anything to tell, so the roles may have.
        print_tail(console, roles_log)
    if len(failed) > LOGS_SHOWN_MAX:
        console.print(f"… and {len(failed) - LOGS_SHOWN_MAX} more, in {Path(failed[0].run or '').parent}", markup=False)


def print_tail(console: Console, file: Path) -> None:
    """Print the last lines of a file."""
    console.print(f"\n--- the end of {file}", markup=False, soft_wrap=True)
    try:
        with file.open(errors="replace") as lines:
            for line in deque(lines, LOG_LINES_SHOWN):
                console.print(line.rstrip("\n"), markup=False, soft_wrap=True)
    except OSError as error:
        console.print(f"(it cannot be read: {error.strerror})", markup=False)


def _seconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:.1f} s"
