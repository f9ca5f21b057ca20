"""The role ingress: events that come by HTTP go to their topics, and success is answered once Kafka has them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time

from confluent_kafka import KafkaException

from headrace.edges import metrics
from headrace.edges.faust.fenced_producer import DeliveryFailed
from headrace.edges.http_intake import Answer, Credentials, HttpIntake, refusal
from headrace.edges.kafka.event_writer import EventWriter, TooLarge, Unacknowledged, Written
from headrace.roles.health import Health
from headrace.settings import Settings
from headrace.stages.receive import Fault, Refused, Request, receive

log = logging.getLogger(__name__)

TURN_S = 1.0
KAFKA_CHECK_S = 5.0
"""How often the ingress makes sure that a broker answers it."""
RETRY_S = 5
_STATUS = {Fault.UNKNOWN_FORMAT: 415}


class Ingress:
    """Decides what requests are answered."""

    def __init__(self, settings: Settings, writer: EventWriter) -> None:
        """Write through `writer`."""
        # Whoever may send events may not thereby deploy triggers or start runs.
        self._reserved = frozenset(topic.name for topic in settings.internal_topics())
        self._writer = writer

    async def answer(self, request: Request) -> Answer:
        """Write what a request brings, and say what became of it."""
        received = receive(request, time.time_ns() // 1_000_000, self._reserved)
        if isinstance(received, Refused):
            answer = refusal(_STATUS.get(received.fault, 400), received.fault, received.message)
            if received.index is None:
                return answer
            return Answer(answer.status, answer.outcome, {**answer.fields, "index": received.index})
        outcome = await self._writer.write(received)
        match outcome:
            case Written():
                metrics.INGRESS_EVENTS.labels("written").inc(outcome.written)
                metrics.INGRESS_EVENTS.labels("no-topic").inc(outcome.without_topic)
                fields = {"written": outcome.written, "without_topic": outcome.without_topic}
                all_written = outcome.without_topic == 0
                return Answer(
                    200 if all_written else 202, "written" if outcome.written or all_written else "no-topic", fields
                )
            case TooLarge():
                return refusal(413, "too-large", outcome.message)
            case Unacknowledged():
                log.warning("an event was not taken: %s", outcome.message)
                return refusal(503, "unacknowledged", outcome.message, Retry_After=str(RETRY_S))


async def run(settings: Settings, health: Health, stop: asyncio.Event) -> None:
    """Take requests until `stop` is set; then answer those that are under way.

    Raises:
        SettingsError: the address cannot be had, or Kafka's client refuses its settings.
        DeliveryFailed: Kafka's client cannot go on writing; the process has to start anew.
    """
    writer = EventWriter(settings.client())
    credentials = Credentials(settings.ingress_token, settings.ingress_hmac_secret)
    intake = HttpIntake(settings.ingress_address, credentials, Ingress(settings, writer).answer)
    writer.start()
    try:
        log.info("events are taken at http://%s", await intake.start())
        try:
            await _tend(writer, health, stop)
        finally:
            await intake.stop()
    finally:
        await writer.stop()


async def _tend(writer: EventWriter, health: Health, stop: asyncio.Event) -> None:
    """Tell how the ingress is until `stop` is set."""
    checked_s = -KAFKA_CHECK_S
    why: str | None = "starting"
    while not stop.is_set():
        now_s = time.monotonic()
        if now_s - checked_s >= KAFKA_CHECK_S or why is not None:
            checked_s = now_s
            try:
                await writer.learn_topics()
                why = None
            except KafkaException as error:
                why = f"no Kafka broker answers ({error.args[0].str()})"
        if writer.fatal is not None:
            raise DeliveryFailed(f"Kafka's client cannot go on ({writer.fatal}): the ingress has to start anew")
        if why is None:
            health.ready()
        health.beat(why)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), TURN_S)
