"""Progress: what the routers report of themselves becomes join time, and answers who has heard of a deployment."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import orjson

from headrace.model.errors import RecordError

VERSION = 1

TopicPartition = tuple[str, int]


@dataclass(frozen=True, slots=True)
class RouterReport:
    """What one router says of itself, in `headrace.progress`, each second and after every change."""

    member: str
    """The router's own id, new at each start."""
    time_ms: int
    """Its clock, milliseconds since 1970."""
    applied: int
    """The last offset of `headrace.triggers` that its routes include; -1 for none."""
    caught_up: frozenset[TopicPartition] = frozenset()
    """Its event partitions in which nothing unread is left, everything routed being durable."""
    routed_ms: dict[TopicPartition, int] = field(default_factory=dict)
    """Its other event partitions: the time of the last event routed durably; 0 before the first."""

    @property
    def partitions(self) -> set[TopicPartition]:
        """The event partitions that it owns."""
        return set(self.caught_up) | set(self.routed_ms)

    def encode(self) -> bytes:
        """Write the record's bytes."""
        return orjson.dumps(
            {
                "version": VERSION,
                "kind": "router",
                "member": self.member,
                "time_ms": self.time_ms,
                "applied": self.applied,
                "caught_up": sorted(self.caught_up),
                "routed_ms": [[topic, partition, ms] for (topic, partition), ms in sorted(self.routed_ms.items())],
            }
        )


def decode_report(record: dict[str, Any]) -> RouterReport:
    """Read a parsed record that `RouterReport.encode` wrote.

    Raises:
        RecordError: it is damaged, or of a version that this release does not know.
    """
    try:
        if record["version"] != VERSION:
            raise RecordError(f"a progress record has version {record['version']}; this release reads {VERSION}")
        return RouterReport(
            record["member"],
            record["time_ms"],
            record["applied"],
            frozenset((topic, partition) for topic, partition in record["caught_up"]),
            {(topic, partition): ms for topic, partition, ms in record["routed_ms"]},
        )
    except (KeyError, TypeError, ValueError) as error:
        raise RecordError(f"a progress record cannot be read: {error!r}") from None


class Progress:
    """The newest report of every partition, whoever owned it then."""

    def __init__(self) -> None:
        self._reports: dict[TopicPartition, tuple[int, int | None]] = {}
        self._applied: dict[TopicPartition, int] = {}
        self._moved: dict[TopicPartition, tuple[int, int]] = {}

    def take(self, report: RouterReport) -> None:
        """Take in one report. Of two owners during a rebalance, the later clock counts."""
        for partition in report.partitions:
            held = self._reports.get(partition)
            if held is None or report.time_ms >= held[0]:
                routed_ms = None if partition in report.caught_up else report.routed_ms[partition]
                self._reports[partition] = (report.time_ms, routed_ms)
            self._applied[partition] = max(self._applied.get(partition, -1), report.applied)
            value = report.time_ms if partition in report.caught_up else report.routed_ms[partition]
            moved = self._moved.get(partition)
            if moved is None or value != moved[1]:
                self._moved[partition] = (report.time_ms, value)

    def join_time_ms(self, partitions: set[TopicPartition], now_ms: int, stalled_after_ms: int) -> int | None:
        """Return the least progress of `partitions`; None until every one that is not stalled has been heard of.

        Args:
            partitions: every partition of every event that some trigger waits for.
            now_ms: the clock; the answer is never ahead of it.
            stalled_after_ms: a partition whose progress did not move for this long is left out.
        """
        stalled = self.stalled(partitions, now_ms, stalled_after_ms)
        least = now_ms
        for partition in partitions - stalled:
            report = self._reports.get(partition)
            if report is None:
                return None
            least = min(least, report[0] if report[1] is None else report[1])
        return least

    def stalled(self, partitions: set[TopicPartition], now_ms: int, stalled_after_ms: int) -> set[TopicPartition]:
        """Return the partitions whose progress did not move for `stalled_after_ms`."""
        return {
            partition
            for partition in partitions
            if self._moved.setdefault(partition, (now_ms, -1))[0] < now_ms - stalled_after_ms
        }

    def confirmed(self, partitions: set[TopicPartition], applied: int) -> set[TopicPartition]:
        """Return those of `partitions` whose owner has applied offset `applied` of `headrace.triggers`."""
        return {partition for partition in partitions if self._applied.get(partition, -1) >= applied}
