"""The drain: says when every role has gone to the end of what was there, so that nothing more can come of it."""

from __future__ import annotations

from confluent_kafka import KafkaException
from confluent_kafka.admin import OffsetSpec

from headrace.edges.kafka.clients import Place, admin_client, committed_offsets, no_broker, offsets
from headrace.edges.kafka.topics import partition_counts
from headrace.settings import Settings


class Drain:
    """Follows what was published up to now through the roles, one after the other.

    The ends of a role's topics are taken once the role before it has committed all that it was given: from then on
    those ends include everything that came of it. Ticks go on, so a role's lag need never be zero.
    """

    def __init__(self, settings: Settings, events: list[str]) -> None:
        """Follow what the topics `events` hold now."""
        names = settings.topics
        self._settings = settings
        self._admin = admin_client(settings)
        self._left = [("route", set(events)), ("join", {names.matches}), ("submit", {names.firings})]
        self._ends: dict[Place, int] | None = None

    def is_done(self) -> bool:
        """Look once, which takes some milliseconds, and return whether all is decided and submitted.

        Raises:
            NoBrokerError: Kafka does not answer.
        """
        try:
            while self._left:
                role, topics = self._left[0]
                if self._ends is None:
                    self._ends = self._end_offsets(topics)
                committed = committed_offsets(self._settings, self._settings.topics.group(role), self._ends)
                if any(committed[at] < end for at, end in self._ends.items() if end > 0):
                    return False
                self._left.pop(0)
                self._ends = None
            return True
        except KafkaException as error:
            raise no_broker(self._settings, error) from None

    def _end_offsets(self, topics: set[str]) -> dict[Place, int]:
        counts = partition_counts(self._admin, topics)
        return offsets(self._admin, [(t, p) for t, count in counts.items() for p in range(count)], OffsetSpec.latest())
