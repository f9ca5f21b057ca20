"""The role ingress as senders meet it: a process of its own, a real Kafka, and Metaflow's own class."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient

from headrace.model import bounds
from headrace.stages.receive import BATCHED, STRUCTURED
from tests.support.engine import Engine
from tests.support.ingress import TIMEOUT_S, address, envelope, ingress, new_name, read_events, running, send
from tests.support.kafka import DEADLINE_S, KafkaServer, wait_until
from tests.support.published import create_visible_topic, published

TOKEN = "a-token-of-the-tests"
SECRET = "a-secret-of-the-tests"
METAFLOW = """
import sys
from metaflow.integrations import ArgoEvent
event = ArgoEvent(sys.argv[1], payload={"rows": 5}, access_token=sys.argv[2] or None)
event.add_to_payload("region", "eu")
print(event.publish(payload={"exact": 12345678901234567890123}, ignore_errors=False))
"""


@pytest.fixture(scope="module")
def guarded_ingress(kafka: KafkaServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """An ingress that asks for a token."""
    directory = tmp_path_factory.mktemp("guarded")
    with running(ingress(kafka.bootstrap_servers, directory, HEADRACE_INGRESS_TOKEN=TOKEN)) as engine:
        yield engine


def cloud_event(name: str, event_id: str, **fields: Any) -> dict[str, Any]:
    return {"specversion": "1.0", "id": event_id, "source": "/tests", "type": name, **fields}


def event_metric(engine: Engine, outcome: str) -> float:
    return engine.metrics("ingress").get(f'headrace_ingress_events_total{{outcome="{outcome}"}}', 0.0)


def publish_by_metaflow(
    engine: Engine, directory: Path, name: str, token: str = "", **environment: str
) -> subprocess.CompletedProcess[str]:
    """Publish through the class that Metaflow itself brings, in a process that knows nothing of Headrace."""
    foreign = ("HEADRACE_", "METAFLOW_")
    return subprocess.run(
        [sys.executable, "-c", METAFLOW, name, token],
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith(foreign)},
            "METAFLOW_ARGO_EVENTS_WEBHOOK_URL": f"http://{address(engine)}/event",
            "HOME": str(directory),
            "USERNAME": "tests",
            **environment,
        },
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )


def test_what_metaflows_own_class_publishes_is_the_event_that_the_router_reads(
    open_ingress: Engine, kafka: KafkaServer, topic: str, tmp_path: Path
) -> None:
    said = publish_by_metaflow(open_ingress, tmp_path, topic)
    assert said.returncode == 0, said.stderr
    (event,) = read_events(published(kafka, topic))
    assert event.event.id == said.stdout.strip() == event.fields["id"]
    assert event.event.time_ms == event.fields["timestamp"] * 1000
    assert (event.fields["rows"], event.fields["region"], event.fields["name"]) == (5, "eu", topic)
    assert '"exact": 12345678901234567890123' in event.event.payload


@pytest.mark.parametrize(
    ("token", "environment", "is_taken"),
    [
        (TOKEN, {}, True),
        ("another", {}, False),
        ("", {}, False),
        ("", {"METAFLOW_ARGO_EVENTS_WEBHOOK_AUTH": "service", "METAFLOW_SERVICE_AUTH_KEY": TOKEN}, True),
        ("", {"METAFLOW_ARGO_EVENTS_WEBHOOK_AUTH": "service", "METAFLOW_SERVICE_AUTH_KEY": "another"}, False),
    ],
)
def test_metaflow_shows_the_token_in_each_of_its_ways(
    guarded_ingress: Engine,
    kafka: KafkaServer,
    topic: str,
    tmp_path: Path,
    token: str,
    environment: dict[str, str],
    is_taken: bool,
) -> None:
    said = publish_by_metaflow(guarded_ingress, tmp_path, topic, token, **environment)
    assert (said.returncode == 0) is is_taken, said.stderr
    assert is_taken or "401" in said.stderr
    assert len(published(kafka, topic)) == is_taken


def test_cloudevents_in_each_mode(open_ingress: Engine, kafka: KafkaServer, topic: str) -> None:
    at = "2026-05-01T12:00:00.250Z"
    data = '{"exact": 1.10, "big": 12345678901234567890123}'
    binary = {f"ce-{name}": value for name, value in cloud_event(topic, "binary", time=at).items()}
    assert send(open_ingress, data, {**binary, "Content-Type": "application/json"}).status == 200
    structured = json.dumps(cloud_event(topic, "structured", time=at))[:-1] + f', "data": {data}}}'
    assert send(open_ingress, structured, {"Content-Type": STRUCTURED}).fields == {"written": 1, "without_topic": 0}
    batch = f"[{structured.replace('structured', 'one')},\n {structured.replace('structured', 'two')}]"
    assert send(open_ingress, batch, {"Content-Type": BATCHED}).fields == {"written": 2, "without_topic": 0}
    events = {event.event.id: event for event in read_events(published(kafka, topic))}
    assert events.keys() == {"binary", "structured", "one", "two"}
    assert {event.event.time_ms for event in events.values()} == {1_777_636_800_250}
    for event in events.values():
        assert "1.10" in event.event.payload and "12345678901234567890123" in event.event.payload


def test_a_batch_with_one_bad_event_writes_nothing(open_ingress: Engine, kafka: KafkaServer, topic: str) -> None:
    batch = [cloud_event(topic, "good"), cloud_event(topic, "bad", time="soon"), cloud_event(topic, "good-too")]
    answer = send(open_ingress, json.dumps(batch), {"Content-Type": BATCHED})
    assert (*answer.refused(), answer.fields["index"]) == (400, "bad-time", 1)
    assert published(kafka, topic) == []


def test_bad_requests_are_refused_with_a_reason(open_ingress: Engine, kafka: KafkaServer, topic: str) -> None:
    good = envelope(topic)
    refused = [
        (send(open_ingress, b"rows=5"), (400, "not-json")),
        (send(open_ingress, b""), (400, "not-json")),
        (send(open_ingress, b"[]"), (400, "not-an-object")),
        (send(open_ingress, b'{"name": "a"}'), (400, "bad-envelope")),
        (send(open_ingress, envelope("no topic")), (400, "bad-name")),
        (send(open_ingress, envelope(f"{open_ingress.prefix}triggers")), (400, "bad-name")),
        (send(open_ingress, envelope("__consumer_offsets")), (400, "bad-name")),
        (send(open_ingress, good, {"Content-Encoding": "gzip"}), (415, "unknown-format")),
        (send(open_ingress, good, {"Content-Type": "application/cloudevents+avro"}), (415, "unknown-format")),
        (send(open_ingress, good, {"Origin": "http://a.page"}), (403, "from-a-web-page")),
        (send(open_ingress, good, method="PUT"), (405, "wrong-method")),
        (send(open_ingress, None, method="GET"), (405, "wrong-method")),
    ]
    for answer, wanted in refused:
        assert answer.refused() == wanted
    assert refused[-1][0].headers["Allow"] == "POST"
    assert published(kafka, topic) == []


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_is_never_larger_than_a_mebibyte(
    open_ingress: Engine, kafka: KafkaServer, topic: str, chunked: bool
) -> None:
    frame = len(envelope(topic, x=""))
    full = envelope(topic, x="y" * (bounds.INGRESS_BODY_BYTES_MAX - frame))
    for body, status in ((full, 200), (full + b" ", 413), (full + b" " * 3_000_000, 413)):
        parts = iter([body[at : at + 65_536] for at in range(0, len(body), 65_536)])
        answer = send(open_ingress, parts if chunked else body)
        assert answer.status == status
        assert status == 200 or answer.refused() == (413, "too-large")
    assert [record.value() for record in published(kafka, topic)] == [full]


def test_what_asks_before_it_sends_a_large_body_is_told_at_once(open_ingress: Engine) -> None:
    host, _, port = address(open_ingress).partition(":")
    with socket.create_connection((host, int(port)), TIMEOUT_S) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999\r\nExpect: 100-continue\r\n\r\n")
        assert connection.recv(1_000).startswith(b"HTTP/1.1 413 ")


def test_an_event_without_a_topic_is_dropped_and_counted(open_ingress: Engine, kafka: KafkaServer, topic: str) -> None:
    before = event_metric(open_ingress, "no-topic")
    names = [new_name() for _ in range(5)]
    for name in names:
        answer = send(open_ingress, envelope(name))
        assert (answer.status, answer.fields) == (202, {"written": 0, "without_topic": 1})
    mixed = [cloud_event(topic, "kept"), cloud_event(names[0], "dropped")]
    answer = send(open_ingress, json.dumps(mixed), {"Content-Type": BATCHED})
    assert (answer.status, answer.fields) == (202, {"written": 1, "without_topic": 1})
    assert event_metric(open_ingress, "no-topic") == before + 6
    assert [event.event.id for event in read_events(published(kafka, topic))] == ["kept"]
    assert not any(name in sample for name in names for sample in open_ingress.metrics("ingress"))


def test_a_topic_is_seen_as_soon_as_it_is_there_and_missed_once_it_is_gone(
    open_ingress: Engine, kafka: KafkaServer
) -> None:
    name = new_name()
    assert send(open_ingress, envelope(name)).status == 202
    create_visible_topic(kafka, name)
    assert send(open_ingress, envelope(name)).status == 200
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    admin.delete_topics([name])[name].result(DEADLINE_S)
    wait_until(lambda: send(open_ingress, envelope(name)).status == 202, "the end of a topic")
    create_visible_topic(kafka, name)
    wait_until(lambda: send(open_ingress, envelope(name)).status == 200, "a topic that was made anew")


def test_a_signature_is_of_the_body(kafka: KafkaServer, tmp_path: Path, topic: str) -> None:
    prepared = ingress(kafka.bootstrap_servers, tmp_path / "signed", HEADRACE_INGRESS_HMAC_SECRET=SECRET)
    with running(prepared) as engine:
        body = envelope(topic, rows=5)
        right = "sha256=" + hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
        assert send(engine, body).refused() == (401, "unauthorized")
        assert send(engine, body + b" ", {"X-Headrace-Signature": right}).refused() == (401, "unauthorized")
        assert send(engine, body, {"X-Headrace-Signature": right, "ce-type": "x"}).refused() == (401, "unauthorized")
        assert send(engine, body, {"X-Headrace-Signature": right}).status == 200
        assert [record.value() for record in published(kafka, topic)] == [body]


def test_senders_without_the_token_learn_nothing_else(guarded_ingress: Engine, topic: str) -> None:
    for headers in ({}, {"Authorization": "Basic x"}, {"Authorization": "Bearer"}, {"X-API-Key": "\xff"}):
        answer = send(guarded_ingress, b"not JSON", headers)
        assert answer.refused() == (401, "unauthorized")
        assert answer.headers["WWW-Authenticate"] == "Bearer"
    allowed = {"Authorization": f"bearer {TOKEN}", "Origin": "http://a.page"}
    assert send(guarded_ingress, envelope(topic), allowed).status == 200


def test_a_taken_address_is_named(kafka: KafkaServer, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        engine = ingress(kafka.bootstrap_servers, tmp_path / "engine")
        said = engine.cli("run", "ingress", HEADRACE_INGRESS_ADDRESS=f"127.0.0.1:{taken.getsockname()[1]}").expect(1)
    assert "set HEADRACE_INGRESS_ADDRESS to a free address" in said.stderr
