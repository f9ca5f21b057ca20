"""The internal topics: their names, and what each must be set to so that nothing is lost."""

from __future__ import annotations

from dataclasses import dataclass, field

from headrace.model import bounds

_HOUR_MS = 3_600_000
_DAY_MS = 24 * _HOUR_MS


@dataclass(frozen=True, slots=True)
class InternalTopic:
    """One internal topic as it should be."""

    name: str
    partitions: int
    replication: int
    config: dict[str, str] = field(default_factory=dict)

    @property
    def retention_ms(self) -> int | None:
        """How long records are kept; None where they are kept for ever."""
        text = self.config.get("retention.ms")
        return None if text is None else int(text)


@dataclass(frozen=True, slots=True)
class TopicNames:
    """The names of the internal topics and consumer groups under one prefix."""

    prefix: str

    @property
    def triggers(self) -> str:
        """Deployed triggers, compacted, keyed by `namespace/name`."""
        return f"{self.prefix}triggers"

    @property
    def matches(self) -> str:
        """Frames and ticks, keyed by trigger and key."""
        return f"{self.prefix}matches"

    @property
    def joins(self) -> str:
        """The join's changelog, compacted, partitioned like the matches."""
        return f"{self.prefix}joins"

    @property
    def firings(self) -> str:
        """Firings, partitioned by trigger."""
        return f"{self.prefix}firings"

    @property
    def runs(self) -> str:
        """Runs, keyed by firing, partitioned like the firings."""
        return f"{self.prefix}runs"

    @property
    def dead_letters(self) -> str:
        """What was set aside."""
        return f"{self.prefix}deadletters"

    @property
    def progress(self) -> str:
        """What the roles report of themselves, each second."""
        return f"{self.prefix}progress"

    def group(self, role: str) -> str:
        """The consumer group of a role."""
        return f"{self.prefix}{role}"


def internal_topics(names: TopicNames, partitions: int, replication: int) -> list[InternalTopic]:
    """Declare every internal topic.

    Args:
        names: their names.
        partitions: partitions of the topics that are spread.
        replication: copies of each; with three or more, two must have a record before it counts as written.
    """
    common = {
        "min.insync.replicas": "2" if replication >= 3 else "1",
        "max.message.bytes": str(bounds.INTERNAL_RECORD_BYTES_MAX),
        "unclean.leader.election.enable": "false",
        "compression.type": "producer",
    }

    def kept(days: float) -> dict[str, str]:
        return {"cleanup.policy": "delete", "retention.ms": str(int(days * _DAY_MS)), "retention.bytes": "-1"}

    def compacted(days: float | None = None) -> dict[str, str]:
        if days is None:
            return {"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.2"}
        return {"cleanup.policy": "compact,delete", "retention.ms": str(int(days * _DAY_MS)), "retention.bytes": "-1"}

    def topic(name: str, count: int, config: dict[str, str]) -> InternalTopic:
        return InternalTopic(name, count, replication, {**common, **config})

    return [
        topic(names.triggers, 1, compacted()),
        topic(names.matches, partitions, kept(7)),
        topic(names.joins, partitions, compacted()),
        topic(names.firings, partitions, kept(7)),
        # The ledger reads the last 24 hours whole: that a firing has started must not give way to what came after.
        topic(names.runs, partitions, {**compacted(30), "min.compaction.lag.ms": str(25 * _HOUR_MS)}),
        topic(names.dead_letters, 1, compacted(30)),
        topic(names.progress, 1, {**kept(1 / 24), "segment.ms": str(600_000)}),
    ]
