"""What a soak measures of each process and topic, again and again, and whether it grew."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.chaos.world import World
from tests.support.engine import ROLES

# What a submitter remembers of each firing for 24 hours, so that a deleted Workflow is not created again: a text of 64
# characters, a state, and a dictionary's room for both.
LEDGER_BYTES = 300
_KIB = 1024
_MIB = 1024 * 1024


@dataclass(frozen=True)
class Sample:
    """One moment of a soak."""

    at_s: float
    """Since the load began."""
    workflows: int
    resident_bytes: dict[str, list[int]]
    """Of each role's processes, oldest first."""
    open_files: dict[str, list[int]]
    pids: dict[str, list[int]]
    lag: dict[str, int]
    """Role to the records that it has yet to read."""
    topic_bytes: dict[str, int]
    """Internal topic, without the prefix, to its size on disk."""
    broker_bytes: int | None
    """The broker's resident memory; None while it is away."""


@dataclass(frozen=True)
class Growth:
    """How one measure changed from a soak's second quarter to its last."""

    measure: str
    second: float
    last: float
    most: float | None
    """What the last may be; None where growth is by design."""
    unit: str

    @property
    def has_grown(self) -> bool:
        """Whether it is more than it may be."""
        return self.most is not None and self.last > self.most

    def as_json(self) -> dict[str, Any]:
        """Everything, for programs."""
        return {**asdict(self), "has_grown": self.has_grown}


def take(world: World, at_s: float) -> Sample:
    """Measure everything now."""
    processes = {role: [p.pid for p in world.fleet.processes(role) if not p.ended] for role in ROLES}
    said = world.engine.here("lag", "--json")
    lag: dict[str, int] = dict.fromkeys(ROLES, 0)
    for row in said.rows if said.code == 0 else []:
        lag[row["role"]] += row["records"]
    return Sample(
        at_s,
        len(world.watch.found),
        {role: [size for pid in pids if (size := resident_bytes(pid))] for role, pids in processes.items()},
        {role: [count for pid in pids if (count := open_files(pid))] for role, pids in processes.items()},
        processes,
        lag,
        topic_sizes(world),
        resident_bytes(world.kafka.pid) if world.kafka.pid else None,
    )


def resident_bytes(pid: int) -> int:
    """Return a process's resident memory; 0 if it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    line = next((line for line in status.splitlines() if line.startswith("VmRSS:")), "VmRSS: 0 kB")
    return int(line.split()[1]) * _KIB


def open_files(pid: int) -> int:
    """Return how many files and connections a process has open; 0 if it has ended."""
    try:
        return len(list(Path(f"/proc/{pid}/fd").iterdir()))
    except (FileNotFoundError, ProcessLookupError):
        return 0


def topic_sizes(world: World) -> dict[str, int]:
    """Return what the internal topics' segments take on disk; what is about to be deleted counts no more."""
    prefix = world.engine.prefix
    sizes: dict[str, int] = {}
    for folder in (world.directory / "kafka" / "data").glob(f"{prefix}*-*"):
        topic = folder.name.removeprefix(prefix).rpartition("-")[0]
        size = 0
        for segment in folder.glob("*.log"):
            try:
                size += segment.stat().st_size
            except FileNotFoundError:
                continue
        sizes[topic] = sizes.get(topic, 0) + size
    return sizes


def growths(samples: Sequence[Sample]) -> list[Growth]:
    """Compare the medians of the second and the last quarter; in the first, everything is still getting warm.

    What is more by the tolerance counts as grown: memory 10 %, and for `submit` its ledger; open files 10 % and 4;
    lag 10 % and 100 records; the join's changelog 20 % and 1 MiB, since it shrinks only when it is compacted.
    """
    end_s = samples[-1].at_s
    second = [sample for sample in samples if end_s / 4 <= sample.at_s < end_s / 2]
    last = [sample for sample in samples if sample.at_s >= end_s * 3 / 4]
    found = []

    def compare(
        measure: str, unit: str, of: Callable[[Sample], float | None], share: float | None, room: float
    ) -> None:
        values = [[v for v in map(of, part) if v is not None] for part in (second, last)]
        if not all(values):
            return
        before, after = map(statistics.median, values)
        found.append(Growth(measure, before, after, None if share is None else before * (1 + share) + room, unit))

    ledger = LEDGER_BYTES * (_median_workflows(last) - _median_workflows(second))
    for role in ROLES:
        room = ledger if role == "submit" else 0.0
        compare(f"memory of {role}", "bytes", lambda s, r=role: _mean(s.resident_bytes[r]), 0.1, room)  # type: ignore[misc]
    for role in ROLES:
        compare(f"open files of {role}", "", lambda s, r=role: _mean(s.open_files[r]), 0.1, 4)  # type: ignore[misc]
    for role in ROLES:
        compare(f"lag of {role}", "records", lambda s, r=role: s.lag[r], 0.1, 100)  # type: ignore[misc]
    compare("topic joins, compacted", "bytes", lambda s: s.topic_bytes.get("joins", 0), 0.2, _MIB)
    for topic in sorted(set(samples[-1].topic_bytes) - {"joins"}):
        compare(f"topic {topic}", "bytes", lambda s, t=topic: s.topic_bytes.get(t, 0), None, 0)  # type: ignore[misc]
    compare("memory of the broker", "bytes", lambda s: s.broker_bytes, None, 0)
    return found


def _median_workflows(samples: Sequence[Sample]) -> float:
    return statistics.median(sample.workflows for sample in samples) if samples else 0.0


def _mean(values: Sequence[int]) -> float | None:
    return statistics.mean(values) if values else None
