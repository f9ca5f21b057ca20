"""The load: a thread that publishes a run's records at a steady rate, as far as it is allowed to."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from confluent_kafka import KafkaError, Message, Producer

from headrace.model.dead_letter import Reason
from headrace.model.times import instant_text
from tests.chaos.sets import Record, SetName, Sets

OUTAGE_S = 7200
OUTAGE_HASTE = 10
"""How much faster than usual an outage's records are published: nobody is there to read them anyway."""
_DELIVERY_TIMEOUT_MS = 600_000
_WAIT_S = 0.05

PoisonPlace = tuple[str, int, int]
"""Topic, partition, offset."""


@dataclass(frozen=True)
class Reached:
    """How far the load was at a moment."""

    records: int
    sets: int
    """Sets all of whose events were published."""


class Load:
    """Publishes, from `start` until all records are out or `stop`."""

    def __init__(
        self, sets: Sets, topic_of: Callable[[str], str], client: Mapping[str, str], records_per_s: float
    ) -> None:
        """Prepare to publish `sets`, each event to the topic that `topic_of` names."""
        self.sets = sets
        self.completed: list[SetName] = []
        """Sets in the order in which their last events were published."""
        self.poison: dict[PoisonPlace, Reason] = {}
        """Where each unreadable record lies, and why it is unreadable."""
        self._topic_of = topic_of
        self._interval_s = 1 / records_per_s
        self._producer = Producer(
            {
                **client,
                "enable.idempotence": True,
                "message.timeout.ms": _DELIVERY_TIMEOUT_MS,
                "message.max.bytes": 4_000_000,
                "linger.ms": 2,
                "log_level": 2,
            }
        )
        self._changed = threading.Condition()
        self._published = 0
        self._allowed = 0
        self._stopped = False
        self._refusals: list[KafkaError] = []
        self._missing: dict[SetName, set[str]] = {}
        for record in sets.records:
            for name, part in record.parts:
                self._missing.setdefault(name, set()).add(part)
        # Before the outage it is two hours earlier, for everybody.
        self._behind_ms = OUTAGE_S * 1000 if sets.outage else 0
        self._outage_began_ms = 0
        self._times_ms: dict[str, int] = {}
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)

    def start(self) -> None:
        """Begin, as far as `allow` lets it."""
        self._thread.start()

    def allow(self, records: int) -> None:
        """Let the load publish its first `records` records."""
        with self._changed:
            self._allowed = max(self._allowed, records)
            self._changed.notify_all()

    def wait_for(self, records: int) -> None:
        """Return once so many records, all of which it is allowed to, are published."""
        with self._changed:
            while not self._changed.wait_for(lambda: self._published >= records, 1.0):
                assert self._thread.is_alive(), "the load has ended before its records: its producer failed"

    @property
    def reached(self) -> Reached:
        """How far the load is now."""
        with self._changed:
            return Reached(self._published, len(self.completed))

    def finish(self, timeout_s: float) -> None:
        """Return once every record is acknowledged.

        Raises:
            RuntimeError: one is not.
        """
        self._thread.join(timeout_s)
        left = self._producer.flush(timeout_s)
        if left or self._refusals or self._thread.is_alive():
            raise RuntimeError(f"{left} records of the load are not acknowledged; refused: {self._refusals[:3]}")

    def stop(self) -> None:
        """Publish nothing more."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        self._thread.join()

    def flush(self) -> None:
        """Return once what was published is acknowledged, or refused."""
        self._producer.flush(_DELIVERY_TIMEOUT_MS / 1000)

    def again(self, count: int) -> int:
        """Publish the last `count` records that carry an id once more; return how many there were."""
        with self._changed:
            # A copy from before the outage would come when its first one is forgotten, and rightly count anew.
            first = self.sets.outage.stop if self._published >= self.sets.outage.stop else 0
            records = [record for record in self.sets.records[first : self._published] if record.event_id][-count:]
        for record in records:
            self._produce(record, self._times_ms[record.event_id or ""])
        return len(records)

    def extra(self, records: list[Record]) -> None:
        """Publish poison that is not part of the plan's records."""
        for record in records:
            self._produce(record, self._now_ms())

    def _run(self) -> None:
        due_s = time.monotonic()
        for index, record in enumerate(self.sets.records):
            with self._changed:
                self._changed.wait_for(lambda index=index: self._stopped or self._allowed > index)  # type: ignore[misc]
                if self._stopped:
                    return
            due_s = max(due_s, time.monotonic() - self._interval_s)
            haste = OUTAGE_HASTE if index in self.sets.outage else 1
            due_s += self._interval_s / haste
            self._producer.poll(0)
            time.sleep(max(0.0, due_s - time.monotonic()))
            self._produce(record, self._time_ms(index, record))
            self._note(record)

    def _note(self, record: Record) -> None:
        with self._changed:
            self._published += 1
            for name, part in record.parts:
                missing = self._missing.get(name, set())
                missing.discard(part)
                if not missing and self._missing.pop(name, None) is not None:
                    self.completed.append(name)
            self._changed.notify_all()

    def _time_ms(self, index: int, record: Record) -> int:
        outage = self.sets.outage
        if outage and index == outage.start:
            self._outage_began_ms = time.time_ns() // 1_000_000
        if index in outage:
            # Spread evenly over the two hours.
            share = (index - outage.start) / len(outage)
            now_ms = self._outage_began_ms - round((1 - share) * OUTAGE_S * 1000)
        else:
            if index >= outage.stop:
                self._behind_ms = 0
            now_ms = self._now_ms()
        return now_ms if record.event_id is None else self._times_ms.setdefault(record.event_id, now_ms)

    def _now_ms(self) -> int:
        return time.time_ns() // 1_000_000 - self._behind_ms

    def _produce(self, record: Record, time_ms: int) -> None:
        headers: list[tuple[str, str | bytes | None]] = list(record.headers)
        if record.event_id is not None:
            headers += [("ce_id", record.event_id.encode()), ("ce_time", instant_text(time_ms).encode())]

        def delivered(error: KafkaError | None, message: Message) -> None:
            if error is not None:
                self._refusals.append(error)
            elif record.poison is not None:
                place = (message.topic() or "", message.partition() or 0, message.offset() or 0)
                self.poison[place] = record.poison

        while True:
            try:
                self._producer.produce(
                    self._topic_of(record.event),
                    record.value,
                    record.key,
                    headers=headers,
                    timestamp=time_ms,
                    on_delivery=delivered,
                )
                return
            except BufferError:
                self._producer.poll(_WAIT_S)
