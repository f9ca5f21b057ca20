"""The author of ticks: the router that owns the one partition of `headrace.progress`."""

from __future__ import annotations

import logging
from collections.abc import Callable

import orjson
from confluent_kafka import KafkaException

from headrace.edges import metrics
from headrace.model.errors import RecordError
from headrace.stages.progress import Progress, TopicPartition, decode_report

log = logging.getLogger(__name__)

COUNT_INTERVAL_MS = 15_000


class TickAuthor:
    """Hears every router's reports and says what join time is. Made anew with each ownership."""

    def __init__(self, partition_counts: Callable[[set[str]], dict[str, int]], stalled_after_ms: int) -> None:
        """Begin to listen.

        Args:
            partition_counts: tells how many partitions the event topics have.
            stalled_after_ms: a partition that does not move for this long holds join time back no longer.
        """
        self._partition_counts = partition_counts
        self._stalled_after_ms = stalled_after_ms
        self._progress = Progress()
        self._counts: dict[str, int] = {}
        self._counted: tuple[frozenset[str], int] | None = None
        self._reported_stalled: set[TopicPartition] = set()

    def hear(self, value: bytes) -> None:
        """Take in one record of `headrace.progress`."""
        record = orjson.loads(value)
        if record.get("kind") != "router":
            return
        try:
            self._progress.take(decode_report(record))
        except RecordError as error:
            log.warning("%s", error)

    def time_ms(self, events: frozenset[str], now_ms: int) -> int | None:
        """Return join time; None while some partition has not been heard of, or Kafka does not tell how many exist."""
        if not events:
            return now_ms
        if self._counted is None or self._counted[0] != events or now_ms - self._counted[1] > COUNT_INTERVAL_MS:
            try:
                self._counts = self._partition_counts(set(events))
            except KafkaException as error:
                # Join time stands still until Kafka answers; a router that ended here would only come back later.
                log.warning("no tick, since Kafka does not tell the event topics' partitions: %s", error.args[0].str())
                return None
            self._counted = (events, now_ms)
        partitions = {(topic, p) for topic, count in self._counts.items() for p in range(count)}
        stalled = self._progress.stalled(partitions, now_ms, self._stalled_after_ms)
        metrics.STALLED.set(len(stalled))
        for topic, partition in sorted(stalled - self._reported_stalled):
            log.warning(
                "%s:%d has not moved; join time goes on without it, and its events may become late", topic, partition
            )
        self._reported_stalled = stalled
        return self._progress.join_time_ms(partitions, now_ms, self._stalled_after_ms)
