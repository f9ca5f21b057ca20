"""The author of ticks where Kafka does not answer."""

from __future__ import annotations

import pytest

from headrace.edges.kafka import topics
from headrace.edges.kafka.access import KafkaAccess
from headrace.roles.ticks import TickAuthor
from headrace.settings import load

NOW_MS = 1_700_000_000_000


def test_while_kafka_is_away_there_is_no_tick_and_the_router_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topics, "REQUEST_TIMEOUT_S", 0.1)
    nowhere = KafkaAccess(load({"HEADRACE_BOOTSTRAP_SERVERS": "127.0.0.1:1"}))
    author = TickAuthor(nowhere.partition_counts, 60_000)
    assert author.time_ms(frozenset({"an-event"}), NOW_MS) is None
    assert author.time_ms(frozenset(), NOW_MS) == NOW_MS, "with nothing to ask there is a tick"
