"""Ledger: the firings that a submitter must not start again, read back from `headrace.runs`.

Workflows are deleted some time after they end, so that their names alone cannot tell a repeated firing from a new one.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from confluent_kafka import Consumer, TopicPartition

from headrace.edges.kafka.access import Kafka
from headrace.edges.kafka.clients import REQUEST_TIMEOUT_S, read_to_end, watermarks
from headrace.model import bounds
from headrace.model.errors import RecordError
from headrace.model.run import Run, RunState

log = logging.getLogger(__name__)

REACH_MS = 24 * 3_600_000
"""How far before the oldest uncommitted firing the ledger reaches."""


@dataclass(slots=True)
class Ledger:
    """One partition's firings: their states, and the runs that still need something."""

    states: dict[str, RunState] = field(default_factory=dict)
    queued: dict[str, Run] = field(default_factory=dict)
    """Runs that waited when the partition was last owned."""
    open_local: dict[str, Run] = field(default_factory=dict)
    """Local runs that were started and whose end nobody has written down."""

    def note(self, firing_id: str, state: RunState) -> None:
        """Remember where a firing stands; beyond the bound, the oldest is forgotten."""
        self.states.pop(firing_id, None)
        self.states[firing_id] = state
        if len(self.states) > bounds.LEDGER_FIRINGS_MAX:
            del self.states[next(iter(self.states))]

    def is_decided(self, firing_id: str, retry: bool) -> bool:
        """Whether a firing became a run, waits, or was refused; a retry asks again for what was refused or ended."""
        state = self.states.get(firing_id)
        if state is None:
            return False
        return state not in (RunState.REFUSED, RunState.FAILED, RunState.UNKNOWN) if retry else True


def read_ledger(kafka: Kafka, partition: int, committed: int, now_ms: int) -> Ledger:
    """Read a partition of `headrace.runs` back.

    Args:
        kafka: where it is read from.
        partition: of the firings, and of the runs.
        committed: the next firing's offset; the ledger reaches from 24 h before it.
        now_ms: stands for its time where no firing waits.

    Raises:
        NoBrokerError: Kafka does not answer.
    """
    names = kafka.names
    client = kafka.consumer(group_id=f"{names.prefix}ledger-reader")
    try:
        oldest_ms = _time_of(client, TopicPartition(names.firings, partition, committed), now_ms)
        asked = TopicPartition(names.runs, partition, max(0, oldest_ms - REACH_MS))
        start = client.offsets_for_times([asked], timeout=REQUEST_TIMEOUT_S)[0]
        ledger = Ledger()
        if start.offset >= 0:
            for message in read_to_end(client, [start]):
                take_run(ledger, (message.key() or b"").decode(), message.value())
        return ledger
    finally:
        client.close()


def _time_of(client: Consumer, at: TopicPartition, now_ms: int) -> int:
    _, end = watermarks(client, at)
    if at.offset >= end:
        return now_ms
    for message in read_to_end(client, [at]):
        kind, time_ms = message.timestamp()
        if kind and time_ms >= 0:
            return min(time_ms, now_ms)
    return now_ms


def take_run(ledger: Ledger, firing_id: str, value: bytes | None) -> None:
    """Take one record of the runs into a ledger, oldest first."""
    if value is None:
        return
    try:
        run = Run.decode(value)
    except RecordError as error:
        log.error("a run of firing %s is left out of the ledger: %s", firing_id, error)
        return
    if run.is_outdated(ledger.states.get(firing_id)):
        return
    ledger.note(firing_id, run.state)
    ledger.queued.pop(firing_id, None)
    ledger.open_local.pop(firing_id, None)
    if run.state is RunState.QUEUED:
        ledger.queued[firing_id] = run
    elif run.state is RunState.STARTED and run.is_local:
        ledger.open_local[firing_id] = run
