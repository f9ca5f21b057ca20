"""Outbox: a router's producer. It gathers matches into frames, and knows which turns are delivered whole."""

from __future__ import annotations

from confluent_kafka import KafkaError, Message

from headrace.edges import metrics
from headrace.edges.clock import Clock
from headrace.edges.kafka.access import Kafka
from headrace.model import bounds
from headrace.model.dead_letter import DeadLetter
from headrace.model.errors import HeadraceError
from headrace.model.firing import Firing
from headrace.model.frame import Match, encode_frame
from headrace.model.names import firing_partition_of, partition_of
from headrace.roles.turns import TopicPartition, Turn, Turns
from headrace.stages.pace import Pace

DELIVERY_TIMEOUT_S = 120.0
"""Shorter than librdkafka's max.poll.interval of 300 s, so waiting for deliveries never costs the membership."""
OUTSTANDING_RECORDS_MAX = 50_000
_WAIT_S = 0.05


class Outbox:
    """Everything that a router writes. Used from the router's thread only."""

    def __init__(self, kafka: Kafka, partitions: dict[str, int], clock: Clock) -> None:
        """Connect lazily; `partitions` are the internal topics' counts."""
        self._names = kafka.names
        self._clock = clock
        self._match_partitions = partitions[self._names.matches]
        self._firing_partitions = partitions[self._names.firings]
        self._producer = kafka.producer(DELIVERY_TIMEOUT_S)
        self._turns = Turns()
        self._pace = Pace()
        self._frames: dict[int, list[Match]] = {}
        self._frame_bytes: dict[int, int] = {}
        self._failure: HeadraceError | None = None

    @property
    def turn(self) -> Turn:
        """The turn that whatever is read now belongs to."""
        return self._turns.open

    @property
    def is_full(self) -> bool:
        """Whether so much is undelivered that nothing more should be read."""
        return self._turns.outstanding > OUTSTANDING_RECORDS_MAX

    @property
    def wait_s(self) -> float | None:
        """How long the gathered matches have to wait before they may leave, seconds; None where there are none."""
        return self._pace.wait_s(self._clock.elapsed_s()) if self._frames else None

    def forget(self, partition: TopicPartition) -> None:
        """Let what was read of a partition no longer count as read; what it led to is still delivered."""
        self._turns.forget(partition)

    def match(self, match: Match) -> None:
        """Gather one match for its partition's next frame."""
        partition = partition_of(match.definition.trigger, match.key, self._match_partitions)
        frame = self._frames.setdefault(partition, [])
        if not frame or frame[-1].event is not match.event:
            self._frame_bytes[partition] = self._frame_bytes.get(partition, 0) + len(match.event.payload)
        frame.append(match)
        if self._frame_bytes[partition] > bounds.FRAME_BYTES_MAX:
            self._send_frame(partition)

    def firing(self, firing: Firing) -> None:
        """Write the firing of a trigger that waits for nothing else."""
        partition = firing_partition_of(firing.definition.trigger, self._firing_partitions)
        self.write(self._names.firings, partition, firing.id.encode(), firing.encode())
        metrics.FIRINGS.labels("route").inc()

    def set_aside(self, letter: DeadLetter) -> None:
        """Write a dead letter."""
        metrics.DEAD_LETTERS.labels("route", letter.reason).inc()
        self.write(self._names.dead_letters, 0, letter.id.encode(), letter.encode())

    def write(self, topic: str, partition: int, key: bytes | None, value: bytes) -> None:
        """Write one record as part of the open turn."""
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
                self._producer.poll(_WAIT_S)

    def flush(self) -> None:
        """Let every gathered match leave, and end the turn."""
        if self._frames:
            self._pace.sent(len(self._frames), self._clock.elapsed_s())
            for partition in list(self._frames):
                self._send_frame(partition)
        self._turns.close()

    def flush_when_due(self) -> None:
        """Flush, unless the frames have to wait for their interval."""
        if self._pace.wait_s(self._clock.elapsed_s()) == 0.0:
            self.flush()

    def settle(self, timeout_s: float = 0.0) -> list[Turn]:
        """Serve delivery reports; return the turns that are delivered whole, oldest first.

        Raises:
            HeadraceError: a record could not be delivered; the process must start anew.
        """
        self._producer.poll(timeout_s)
        if self._failure is not None:
            raise self._failure
        return self._turns.done()

    def drain(self) -> list[Turn]:
        """Flush, wait until everything is delivered, and return the turns.

        Raises:
            HeadraceError: a record could not be delivered; the process must start anew.
        """
        self.flush()
        ended: list[Turn] = []
        while self._turns.count:
            ended.extend(self.settle(_WAIT_S))
        return ended

    def _send_frame(self, partition: int) -> None:
        matches = self._frames.pop(partition)
        self._frame_bytes.pop(partition, None)
        self.write(self._names.matches, partition, None, encode_frame(matches))
        metrics.FRAMES.inc()
        metrics.MATCHES.inc(len(matches))
