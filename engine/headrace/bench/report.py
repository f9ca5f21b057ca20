"""Report: the table that a person reads, and the same as JSON, with what it was measured on."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import orjson

from headrace.bench.figures import Figure, Skipped

DURABILITY = (
    "Durability is as in production: what carries events has acks=all and idempotence, the join's changelog is "
    "complete, offsets are committed only behind what they led to."
)
_PACKAGES = ("headrace", "headrace-publisher", "confluent-kafka", "faust-streaming", "aiokafka", "aiohttp", "orjson")


def table(results: Sequence[Figure | Skipped]) -> str:
    """Return the results as an aligned table, one line for each figure."""
    lines = [("row", "what", "measured", "baseline", "ratio (spread)", "aim", "verdict")]
    for result in results:
        if isinstance(result, Skipped):
            lines.append((result.row, f"skipped: {result.why}", "", "", "", "", ""))
            continue
        low, high = result.spread
        baseline = result.baseline_value
        lines.append(
            (
                result.row,
                result.what,
                f"{_number(result.measured)} {result.unit}",
                "" if baseline is None else _number(baseline),
                f"{result.reached:.2f} ({low:.2f}-{high:.2f})"
                if result.ratios
                else f"({_number(low)}-{_number(high)})",
                "" if result.aim is None else str(result.aim),
                result.verdict,
            )
        )
    widths = [max(len(line[column]) for line in lines if line[2] or column == 0) for column in range(7)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def document(
    results: Sequence[Figure | Skipped], commit: str | None, checked: Mapping[str, str] | None = None
) -> bytes:
    """Return the results as JSON, with date, commit, machine and versions; `checked` is what `durability` read."""
    return orjson.dumps(
        {
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "commit": commit,
            "machine": machine(),
            "versions": {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}},
            "durability": {"promise": DURABILITY, "read": dict(checked or {})},
            "results": [result.to_json() for result in results],
        },
        option=orjson.OPT_INDENT_2,
    )


def machine() -> dict[str, Any]:
    """Say what this machine is, and how busy it is now: beside other work only ratios mean anything."""
    load = os.getloadavg()
    processor = platform.processor() or platform.machine()
    information = Path("/proc/cpuinfo")
    if information.exists():
        names = [
            line.partition(":")[2].strip() for line in information.read_text().splitlines() if "model name" in line
        ]
        processor = names[0] if names else processor
    return {"cpus": os.cpu_count(), "processor": processor, "system": platform.platform(), "load": [*load]}


def commit_of(directory: Path) -> str | None:
    """Return the commit that `directory` is a checkout of, with a `+` where files differ; None outside of one."""
    git = ["git", "-C", str(directory)]
    try:
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        changed = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit + ("+" if changed.strip() else "")


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"
