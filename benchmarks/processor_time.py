"""Processor time of everything that a run has started: on a busy machine it says what seconds by the clock do not."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def descendants(pid: int) -> Iterator[int]:
    """Yield a process and all below it."""
    yield pid
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in children.read_text().split():
            yield from descendants(int(child))


def processor_seconds() -> dict[str, float]:
    """Return the seconds used so far by the roles, Kafka, the API server, and the bench with its ended children."""
    used: dict[str, float] = {}
    for pid in descendants(os.getpid()):
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
            # Behind the name, which may hold anything: user and system time, then those of ended children.
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        ticks = sum(map(int, fields[11:15]))
        name = _name(words)
        used[name] = used.get(name, 0.0) + ticks / _TICKS_PER_S
    return used


def _name(words: list[str]) -> str:
    if "run" in words:
        return words[words.index("run") + 1]
    if words[0].endswith("java"):
        return "kafka"
    return "api server" if "--secure-port" in words else "bench"
