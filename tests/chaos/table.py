"""What a person reads of runs: one table of the faults, one of the verdicts, and what was wrong."""

from __future__ import annotations

from collections.abc import Sequence

from tests.chaos.verdict import SHOWN_MAX, Verdict

Row = Sequence[object]


def columns(head: Row, rows: Sequence[Row]) -> str:
    """Lay out rows under their head, the first column to the left and all others to the right."""
    cells = [[str(cell) for cell in row] for row in (head, *rows)]
    widths = [max(len(row[index]) for row in cells) for index in range(len(head))]
    lines = []
    for first, *others in cells:
        aligned = (cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))
        lines.append("  ".join([first.ljust(widths[0]), *aligned]).rstrip())
    return "\n".join(lines)


def faults_table(verdict: Verdict) -> str:
    """Show each fault of a run: when it came, how long it lasted, and how long it took to make up for it."""
    head = (f"seed {verdict.seed}: fault", "at", "records", "workflows", "lasted", "caught up after", "")
    rows = [
        (
            fault.fault,
            f"{fault.at_s:.1f} s",
            f"{fault.before.records:,}",
            f"{fault.workflows_before:,}",
            f"{fault.lasted_s:.1f} s",
            "never" if fault.caught_up_s is None else f"{fault.caught_up_s:.1f} s",
            fault.note,
        )
        for fault in verdict.faults
    ]
    return columns(head, rows)


def verdicts_table(verdicts: Sequence[Verdict]) -> str:
    """Show each run in a line."""
    first = ("seed", "sets", "faults", "workflows", "duplicates", "missing", "unexpected", "wrong")
    head = (*first, "dead letters", "of poison", "lag", "ended by themselves", "seconds", "verdict")
    rows = [
        (
            verdict.seed,
            f"{verdict.sets:,}",
            len(verdict.faults),
            f"{verdict.workflows:,}",
            len(verdict.duplicates),
            len(verdict.missing),
            len(verdict.unexpected),
            len(verdict.wrong),
            verdict.dead_letters,
            verdict.poison,
            verdict.lag,
            ", ".join(f"{count} {role}" for role, count in sorted(verdict.ended.items())) or "none",
            f"{verdict.seconds:.0f}",
            verdict.word,
        )
        for verdict in verdicts
    ]
    return columns(head, rows)


def complaints(verdict: Verdict) -> list[str]:
    """Say what was wrong with a run, a line for each thing, the first of each kind only."""
    kinds = {
        "failed": verdict.failures,
        "two Workflows": verdict.duplicates,
        "no Workflow": verdict.missing,
        "unexpected": verdict.unexpected,
        "wrong": verdict.wrong,
        "dead letters": verdict.letters_wrong,
        "invalid": verdict.invalid,
    }
    lines = [f"{kind}: {text}" for kind, texts in kinds.items() for text in texts[:SHOWN_MAX]]
    lines += [f"{kind}: … and {len(texts) - SHOWN_MAX} more" for kind, texts in kinds.items() if len(texts) > SHOWN_MAX]
    lines += [f"lag: {verdict.lag} records"] if verdict.lag else []
    return lines + ([f"queued: {verdict.queued} firings"] if verdict.queued else [])
