"""What became of a published event: the outcome handed to callbacks, and the report of failures on stderr."""

import sys
import threading
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from .errors import DeliveryFailed
from .settings import Location

LINES_MAX = 20
"""How many failed events one report names singly; the others are counted, so that an outage does not flood
stderr.
"""


@dataclass(frozen=True, slots=True)
class Delivery:
    """The outcome of publishing one event.

    `error` is None where Kafka acknowledged the event, and then `partition` and `offset` say where it is.
    """

    event: str
    id: str
    error: DeliveryFailed | None = None
    partition: int | None = None
    offset: int | None = None


DeliveryCallback = Callable[[Delivery], None]
"""Called once for each event, from a thread of the publisher or from one that publishes, flushes or closes.
"""


def describe(
    event: str, id: str | None, reason: str, text: str, location: Location, connection_error: str | None
) -> str:
    """One sentence on why an event was not delivered, and one on what to do.

    `reason` is librdkafka's name of the error and `text` its words; `connection_error` is the last one seen,
    if recent.
    """
    what = f"Event {event} ({f'id {id}' if id else 'one of publish_many'}) was not delivered: "
    match reason:
        case "UNKNOWN_TOPIC_OR_PART" | "_UNKNOWN_TOPIC":
            return what + f"no topic {event}: deploy a trigger that waits for it, or create the topic."
        case "_MSG_TIMED_OUT" | "_TIMED_OUT" | "_TRANSPORT" | "_ALL_BROKERS_DOWN":
            brokers = f"{location.servers} ({location.origin})"
            if connection_error is None:
                return what + f"the brokers at {brokers} did not acknowledge it in time. Check their health."
            return what + (
                f"no broker could be reached at {brokers}: {connection_error}. Check the address, or start a "
                "Kafka with `headrace up`."
            )
        case "_PURGE_QUEUE":
            why = f" ({connection_error})" if connection_error else ""
            return what + (
                f"it was still waiting for the brokers at {location.servers} when the publisher was closed"
                f"{why}. Publish it again."
            )
        case "_PURGE_INFLIGHT":
            return what + (
                f"the brokers at {location.servers} had not acknowledged it when the publisher was closed; it "
                "may have arrived. Publish it again with the same id."
            )
        case "TOPIC_EXCEPTION":
            return what + (
                f"Kafka refuses the topic {event} ({text}). There may be a topic whose name differs only in '.' "
                "and '_': rename the event."
            )
        case "TOPIC_AUTHORIZATION_FAILED" | "CLUSTER_AUTHORIZATION_FAILED":
            return what + f"Kafka does not allow it ({text}). Grant this user WRITE on the topic {event}."
        case "MSG_SIZE_TOO_LARGE":
            return what + (f"it is too large for Kafka ({text}). Raise the topic's max.message.bytes, or send less.")
        case "_FATAL":
            return what + f"the publisher cannot go on ({text}). Close it and open a new one."
        case _:
            return what + f"{text} ({reason}) from the brokers at {location.servers}."


class FailureReport:
    """Collects failures, as callbacks make them, and writes them to stderr in one go."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: Counter[str] = Counter()
        self._unseen = 0

    def add(self, failure: str) -> None:
        """Notes a failure by its sentence; nothing is written yet."""
        with self._lock:
            self._waiting[failure] += 1
            self._unseen += 1

    def take_count(self) -> int:
        """The number of failures since the last call."""
        with self._lock:
            count, self._unseen = self._unseen, 0
        return count

    def write(self) -> None:
        """Writes what was noted since the last call: LINES_MAX sentences, equal ones once, and a count of the rest."""
        if not self._waiting:
            return
        with self._lock:
            waiting, self._waiting = self._waiting, Counter()
        shown = list(waiting.items())[:LINES_MAX]
        lines = [failure if times == 1 else f"{times} times: {failure}" for failure, times in shown]
        if further := waiting.total() - sum(times for _, times in shown):
            lines.append(f"{further} further events were not delivered either.")
        say(*lines)


def call_back(on_delivery: DeliveryCallback, delivery: Delivery) -> None:
    """Calls a user's callback; what it raises is only shown, as other events' outcomes wait behind it."""
    try:
        on_delivery(delivery)
    except Exception:
        what = f"The on_delivery callback of event {delivery.event} (id {delivery.id}) failed"
        say(f"{what}:\n{traceback.format_exc()}")


def say(*lines: str) -> None:
    """Writes lines to stderr in one write, so that lines of other threads do not run into them."""
    if sys.stderr is not None:  # A process may run without.
        sys.stderr.write("".join(f"headrace-publisher: {line}\n" for line in lines))
        sys.stderr.flush()
