"""The role route: reads every event topic that some trigger names, and writes frames, firings and dead letters.

Offsets are committed only for records whose every effect Kafka has acknowledged. What was read but not committed is
read again by the next owner: events have ids, so reading twice changes nothing.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import uuid

from confluent_kafka import OFFSET_END, Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from headrace.edges import metrics
from headrace.edges.fenced_producer import producer_properties
from headrace.edges.kafka import REQUEST_TIMEOUT_S, admin_client, consumer, raw_record
from headrace.edges.trigger_feed import TriggerChange, TriggerFeed
from headrace.model import bounds
from headrace.model.dead_letter import DeadLetter, dead_letter, event_dead_letter
from headrace.model.errors import HeadraceError, TriggerError
from headrace.model.event import ReadEvent
from headrace.model.frame import Match, encode_frame, encode_tick
from headrace.model.names import firing_partition_of, partition_of
from headrace.roles.health import Health
from headrace.roles.ticks import TickAuthor
from headrace.roles.turns import Turns
from headrace.settings import Settings
from headrace.stages.progress import RouterReport
from headrace.stages.read import RawRecord, Unreadable, read
from headrace.stages.route import Routes, compile_trigger

log = logging.getLogger(__name__)

FRAME_INTERVAL_S = 0.020
"""Under load a partition gets at most one frame in this time; after idleness a frame leaves at once."""
REPORT_INTERVAL_S = 1.0
POLL_S = 0.05
BATCH_RECORDS_MAX = 500
OUTSTANDING_RECORDS_MAX = 50_000
DELIVERY_TIMEOUT_S = 120.0
"""Shorter than librdkafka's max.poll.interval of 300 s, so waiting for deliveries never costs the membership."""

_LOST_OFFSETS = {KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE}


class Router:
    """One router. Everything but the librdkafka threads runs in the thread that calls `run`."""

    def __init__(self, settings: Settings, partitions: dict[str, int], health: Health) -> None:
        """Prepare a router.

        Args:
            settings: where Kafka is.
            partitions: the internal topics' counts of partitions.
            health: where to say how it goes.
        """
        self._settings = settings
        self._names = settings.topics
        self._match_partitions = partitions[self._names.matches]
        self._firing_partitions = partitions[self._names.firings]
        self._health = health
        self._member = uuid.uuid4().hex
        self._routes = Routes()
        self._turns = Turns()
        self._frames: dict[int, list[Match]] = {}
        self._frame_bytes: dict[int, int] = {}
        self._flushed_s = 0.0
        self._reported_s = 0.0
        self._report_now = True
        self._owned: set[tuple[str, int]] = set()
        self._at_end: set[tuple[str, int]] = set()
        self._handled: dict[tuple[str, int], int] = {}
        self._durable: dict[tuple[str, int], int] = {}
        self._durable_ms: dict[tuple[str, int], int] = {}
        self._stopped: dict[tuple[str, int], int] = {}
        self._author: TickAuthor | None = None
        self._failure: BaseException | None = None
        self._admin = admin_client(settings)
        self._feed = TriggerFeed(settings)
        self._producer = Producer({**producer_properties(settings.client(), DELIVERY_TIMEOUT_S), "linger.ms": "0"})
        self._consumer = self._new_consumer()

    def _new_consumer(self) -> Consumer:
        return consumer(
            self._settings,
            group_id=self._names.group("route"),
            partition_assignment_strategy="cooperative-sticky",
            enable_auto_commit="true",
            auto_commit_interval_ms="1000",
            enable_partition_eof="true",
            session_timeout_ms="10000",
            fetch_wait_max_ms="100",
            fetch_queue_backoff_ms="20",
            topic_metadata_refresh_interval_ms="30000",
            topic_metadata_refresh_fast_interval_ms="50",
        )

    def run(self, stop: threading.Event) -> None:
        """Route until `stop` is set; then hand on what was read, commit, and leave the group.

        Raises:
            HeadraceError: a record could not be delivered; the process must start anew.
        """
        self._change_routes(self._feed.read_to_end())
        self._subscribe()
        self._health.ready()
        while not stop.is_set():
            self._follow_triggers()
            for message in self._poll():
                self._take(message)
            if time.monotonic() - self._flushed_s >= FRAME_INTERVAL_S:
                self._flush()
            self._settle()
            self._report()
        self._drain()
        self._consumer.close()
        self._feed.close()

    def _poll(self) -> list[Message]:
        if self._turns.outstanding > OUTSTANDING_RECORDS_MAX:
            self._producer.poll(POLL_S)
            return []
        timeout_s = POLL_S
        if self._frames:
            timeout_s = max(0.0, FRAME_INTERVAL_S - (time.monotonic() - self._flushed_s))
        first = self._consumer.poll(timeout_s)
        if first is None:
            return []
        return [first, *self._consumer.consume(BATCH_RECORDS_MAX, 0)]

    def _take(self, message: Message) -> None:
        at = (message.topic() or "", message.partition() or 0)
        error = message.error()
        if error is not None:
            self._take_error(at, error)
            return
        if at[0] == self._names.progress:
            if self._author is not None:
                self._author.hear(message.value() or b"{}")
            return
        if at not in self._owned:
            return
        record = raw_record(message)
        self._at_end.discard(at)
        self._handled[at] = record.position.offset + 1
        self._route(record, at)

    def _route(self, record: RawRecord, at: tuple[str, int]) -> None:
        now_ms = time.time_ns() // 1_000_000
        metrics.EVENTS.labels(at[0]).inc()
        outcome = read(record, now_ms)
        log_ms = record.timestamp_ms if record.timestamp_ms is not None else now_ms
        if isinstance(outcome, Unreadable):
            metrics.EVENTS_UNREADABLE.labels(outcome.reason).inc()
            self._set_aside(_letter(record, outcome, now_ms))
        else:
            # The earlier of the two clocks: one event with a time ahead of its log must not pull join time past
            # the events behind it.
            log_ms = min(log_ms, outcome.event.time_ms)
            self._hand_on(outcome)
        self._turns.open.saw(at, record.position.offset, log_ms)

    def _hand_on(self, outcome: ReadEvent) -> None:
        routed = self._routes.route(outcome)
        for how, count in routed.counts.items():
            metrics.FILTERED.labels(how).inc(count)
        for firing in routed.firings:
            partition = firing_partition_of(firing.definition.trigger, self._firing_partitions)
            self._produce(self._names.firings, partition, firing.id.encode(), firing.encode())
            metrics.FIRINGS.labels("route").inc()
        for match in routed.matches:
            self._add_match(match)
        for rejected in routed.rejected:
            self._set_aside(event_dead_letter(outcome.event, rejected.reason, rejected.message, rejected.trigger or ""))

    def _add_match(self, match: Match) -> None:
        partition = partition_of(match.definition.trigger, match.key, self._match_partitions)
        frame = self._frames.setdefault(partition, [])
        if not frame or frame[-1].event is not match.event:
            self._frame_bytes[partition] = self._frame_bytes.get(partition, 0) + len(match.event.payload)
        frame.append(match)
        if self._frame_bytes[partition] > bounds.FRAME_BYTES_MAX:
            self._send_frame(partition)

    def _send_frame(self, partition: int) -> None:
        matches = self._frames.pop(partition)
        self._frame_bytes.pop(partition, None)
        self._produce(self._names.matches, partition, None, encode_frame(matches))
        metrics.FRAMES.inc()
        metrics.MATCHES.inc(len(matches))

    def _flush(self) -> None:
        for partition in list(self._frames):
            self._send_frame(partition)
            self._flushed_s = time.monotonic()
        self._turns.close()

    def _set_aside(self, letter: DeadLetter) -> None:
        metrics.DEAD_LETTERS.labels("route", letter.reason).inc()
        self._produce(self._names.dead_letters, 0, letter.id.encode(), letter.encode())

    def _produce(self, topic: str, partition: int, key: bytes | None, value: bytes) -> None:
        turn = self._turns.open
        turn.outstanding += 1

        def delivered(error: KafkaError | None, _: Message) -> None:
            if error is not None:
                self._failure = HeadraceError(f"a record for {topic} could not be delivered: {error.str()}")
            turn.outstanding -= 1

        while True:
            try:
                self._producer.produce(topic, value, key, partition, delivered)
                return
            except BufferError:
                self._producer.poll(POLL_S)

    def _settle(self) -> None:
        self._producer.poll(0)
        if self._failure is not None:
            raise self._failure
        for turn in self._turns.done():
            offsets = []
            for at, offset in turn.next_offsets.items():
                if at not in self._owned:
                    continue
                offsets.append(TopicPartition(at[0], at[1], offset))
                self._durable[at] = offset
                self._durable_ms[at] = turn.routed_ms[at]
            if offsets:
                self._consumer.store_offsets(offsets=offsets)

    def _drain(self) -> None:
        """Wait until everything read so far is handed on."""
        self._flush()
        while self._turns.count:
            self._producer.poll(POLL_S)
            self._settle()

    def _report(self) -> None:
        now_s = time.monotonic()
        if not self._report_now and now_s - self._reported_s < REPORT_INTERVAL_S:
            return
        self._report_now, self._reported_s = False, now_s
        now_ms = time.time_ns() // 1_000_000
        events = {at for at in self._owned if at[0] != self._names.progress and at not in self._stopped}
        caught_up = {at for at in events & self._at_end if self._durable.get(at) == self._handled.get(at)}
        report = RouterReport(
            self._member,
            now_ms,
            self._feed.applied,
            frozenset(caught_up),
            {at: self._durable_ms.get(at, 0) for at in events - caught_up},
        )
        self._produce(self._names.progress, 0, self._member.encode(), report.encode())
        if self._author is not None:
            time_ms = self._author.time_ms(frozenset(self._routes.events), now_ms)
            if time_ms is not None:
                for partition in range(self._match_partitions):
                    self._produce(self._names.matches, partition, None, encode_tick(time_ms))
                metrics.TICKS.inc()
        stopped = ", ".join(f"{topic}:{partition}" for topic, partition in sorted(self._stopped))
        self._health.beat(f"stopped, since their offsets are gone: {stopped}" if stopped else None)

    def _follow_triggers(self) -> None:
        changes = self._feed.poll()
        if changes:
            # What was matched by the old routes leaves before anything is matched by the new ones.
            self._flush()
            before = self._routes.events
            self._change_routes(changes)
            if self._routes.events != before:
                self._subscribe()
            self._report_now = True

    def _change_routes(self, changes: list[TriggerChange]) -> None:
        for change in changes:
            compiled = None
            if change.record is not None:
                try:
                    compiled = compile_trigger(change.record, self._settings.window_ms, self._settings.lateness_ms)
                except TriggerError as error:
                    log.error("the trigger %s cannot be used: %s", change.name, error)
            self._routes = self._routes.changed(change.name, compiled)
        metrics.TRIGGERS.set(len(self._routes.triggers))
        self._resume_stopped()

    def _resume_stopped(self) -> None:
        """Go on with stopped partitions whose triggers were given new starts."""
        for at, start in list(self._stopped.items()):
            offset = self._routes.start_of(*at)
            if offset != start:
                del self._stopped[at]
                self._handled.pop(at, None)
                self._durable.pop(at, None)
                self._consumer.seek(TopicPartition(at[0], at[1], offset))
                log.warning("%s:%d goes on at offset %d", at[0], at[1], offset)

    def _subscribe(self) -> None:
        self._consumer.subscribe(
            [self._names.progress, *sorted(self._routes.events)],
            on_assign=self._on_assign,
            on_revoke=self._on_revoke,
            on_lost=self._on_lost,
        )

    def _on_assign(self, client: Consumer, partitions: list[TopicPartition]) -> None:
        # A new owner must know every trigger that a deployment has returned for.
        self._change_routes(self._feed.read_to_end())
        events = [p for p in partitions if p.topic != self._names.progress]
        committed = client.committed(events, timeout=REQUEST_TIMEOUT_S) if events else []
        for at in committed:
            at.offset = max(at.offset, self._routes.start_of(at.topic, at.partition))
            self._owned.add((at.topic, at.partition))
        if len(events) < len(partitions):
            committed.append(TopicPartition(self._names.progress, 0, OFFSET_END))
            self._owned.add((self._names.progress, 0))
            self._author = TickAuthor(self._admin, self._settings.lateness_ms)
            log.info("this router writes the ticks of join time")
        client.incremental_assign(committed)
        self._report_now = True

    def _on_revoke(self, client: Consumer, partitions: list[TopicPartition]) -> None:
        self._drain()
        try:
            client.commit(asynchronous=False)
        except KafkaException as error:
            if error.args[0].code() != KafkaError._NO_OFFSET:
                log.warning("offsets were not committed on revocation, so some events are read twice: %s", error)
        self._forget(partitions)
        client.incremental_unassign(partitions)

    def _on_lost(self, client: Consumer, partitions: list[TopicPartition]) -> None:
        log.warning("this router lost its place in the group; its partitions are read again by others")
        self._forget(partitions)
        client.incremental_unassign(partitions)

    def _forget(self, partitions: list[TopicPartition]) -> None:
        for at in partitions:
            place = (at.topic, at.partition)
            self._owned.discard(place)
            self._at_end.discard(place)
            self._stopped.pop(place, None)
            for table in (self._handled, self._durable, self._durable_ms):
                table.pop(place, None)
            if at.topic == self._names.progress:
                self._author = None
        metrics.STOPPED.set(len(self._stopped))

    def _take_error(self, at: tuple[str, int], error: KafkaError) -> None:
        if error.code() == KafkaError._PARTITION_EOF:
            self._at_end.add(at)
        elif error.code() in _LOST_OFFSETS:
            self._stopped[at] = self._routes.start_of(*at)
            metrics.STOPPED.set(len(self._stopped))
            log.error(
                "%s:%d stopped: the offsets to read are gone (%s); events may be lost. `headrace resume %s` goes on "
                "with what is there",
                at[0], at[1], error.str(), at[0],
            )  # fmt: skip
        elif error.fatal():
            self._failure = HeadraceError(f"Kafka's client cannot go on: {error.str()}")
        else:
            log.warning("Kafka reports for %s: %s", at[0] or "the brokers", error.str())


def _letter(record: RawRecord, outcome: Unreadable, now_ms: int) -> DeadLetter:
    return dead_letter(
        "event",
        outcome.reason,
        outcome.message,
        record.position,
        record.timestamp_ms if record.timestamp_ms is not None else now_ms,
        value=record.value,
        key=record.key,
        headers=[(name, value or b"") for name, value in record.headers],
    )


def run(settings: Settings, partitions: dict[str, int], health: Health, stop: threading.Event) -> None:
    """Run one router until `stop` is set.

    Raises:
        HeadraceError: it cannot go on; the process must start anew.
    """
    log.info("route starts (pid %d)", os.getpid())
    Router(settings, partitions, health).run(stop)
