"""The ingress as senders meet it: a process of its own, requests to it, and what it wrote."""

from __future__ import annotations

import http.client
import json
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from confluent_kafka import Message

from headrace.edges.kafka.clients import raw_record
from headrace.edges.loopback_port import free_port
from headrace.model.event import ReadEvent
from headrace.stages.read import read
from tests.support.engine import Engine

# More than Kafka's patience with a record, which a sender must outwait to be told.
TIMEOUT_S = 40.0


def ingress(bootstrap_servers: str, directory: Path, **environment: str) -> Engine:
    """Prepare an engine whose only role is an ingress at a port of its own."""
    return Engine(
        {
            "HEADRACE_BOOTSTRAP_SERVERS": bootstrap_servers,
            "HEADRACE_TOPIC_PREFIX": f"h{uuid.uuid4().hex[:8]}.",
            "HEADRACE_INGRESS_ADDRESS": f"127.0.0.1:{free_port()}",
            **environment,
        },
        directory,
    )


@contextmanager
def running(engine: Engine) -> Iterator[Engine]:
    """Start the ingress, and stop it in the end, which must be clean."""
    try:
        engine.start_and_wait("ingress")
        yield engine
        engine.stop()
    finally:
        engine.abandon()


def new_name() -> str:
    return f"event-{uuid.uuid4().hex[:8]}"


def address(engine: Engine) -> str:
    return engine.environment["HEADRACE_INGRESS_ADDRESS"]


class Answer:
    """What the ingress said."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = response.headers
        body = response.read()
        assert response.headers["Content-Type"] == "application/json"
        self.fields: dict[str, Any] = json.loads(body)

    def refused(self) -> tuple[int, str]:
        assert self.fields["message"]
        return self.status, self.fields["error"]


def send(engine: Engine, body: Any, headers: Mapping[str, str] | None = None, method: str = "POST") -> Answer:
    """Send a request to some path; an iterator as body goes out in chunks."""
    with closing(http.client.HTTPConnection(address(engine), timeout=TIMEOUT_S)) as connection:
        connection.request(method, "/any/path?there=is", body, dict(headers or {}))
        return Answer(connection.getresponse())


def envelope(name: str, **payload: Any) -> bytes:
    return json.dumps({"name": name, "payload": payload}).encode()


def read_events(records: list[Message]) -> list[ReadEvent]:
    """Read records as the router does."""
    outcomes = [read(raw_record(record), time.time_ns() // 1_000_000) for record in records]
    events = [outcome for outcome in outcomes if isinstance(outcome, ReadEvent)]
    assert len(events) == len(outcomes), outcomes
    return events
