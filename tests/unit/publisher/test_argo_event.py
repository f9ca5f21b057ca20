"""ArgoEvent against Metaflow's own class, and what it does where no Kafka is configured."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from metaflow.plugins.argo import argo_events as metaflows

from headrace_publisher import ArgoEvent, Delivery, InvalidEventName, NotConfigured, NotPublished
from headrace_publisher.argo_event import identity, metaflow_payload

# Metaflow's classes carry no types.
MetaflowsArgoEvent: Any = metaflows.ArgoEvent
NOW = datetime(2026, 1, 31, 23, 59, 59, 900_000, tzinfo=UTC)
UUID = "0f8fad5b-d9cb-469f-a165-70867728950e"


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No Kafka is configured, and this is no deployed workflow."""
    monkeypatch.chdir(tmp_path)
    for name in ("HEADRACE_BOOTSTRAP_SERVERS", "HEADRACE_STATE", "ARGO_WORKFLOW_TEMPLATE"):
        monkeypatch.delenv(name, raising=False)


class Webhook(HTTPServer):
    """Takes what Metaflow's class posts, as an Argo Events webhook does."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), WebhookRequest)
        self.bodies: list[dict[str, Any]] = []


class WebhookRequest(BaseHTTPRequestHandler):
    server: Webhook

    def do_POST(self) -> None:
        self.server.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Keeps the test's output free of access logs."""


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    with Webhook() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"latest": "2026-01-31", "rows": 3},
        {"id": UUID},
        {"id": "order-7", "name": "other", "timestamp": 5, "generated-by-metaflow": False},
    ],
)
def test_the_payload_is_the_one_that_metaflow_makes(webhook: Webhook, fields: dict[str, Any]) -> None:
    url = f"http://127.0.0.1:{webhook.server_port}"
    theirs_id = MetaflowsArgoEvent("data_updated", url=url).publish(fields, ignore_errors=False)
    theirs = webhook.bodies[0]["payload"]
    ours = metaflow_payload("data_updated", UUID, fields, datetime.now(UTC))
    assert ours.keys() == theirs.keys()
    assert theirs_id == theirs["id"]
    made_anew = {"id", "timestamp", "utc_date"} - fields.keys()
    for name in ours:
        assert type(ours[name]) is type(theirs[name])
        if name not in made_anew:
            assert ours[name] == theirs[name]


def test_the_payload_takes_all_its_times_from_one_instant() -> None:
    assert metaflow_payload("e", UUID, {"a": 1}, NOW) == {
        "name": "e",
        "id": UUID,
        "timestamp": 1769903999,
        "utc_date": "20260131",
        "generated-by-metaflow": True,
        "a": 1,
    }


@given(st.uuids())
def test_a_uuid_identifies_the_event(id: uuid.UUID) -> None:
    assert identity({"id": str(id)}) == str(id)


@pytest.mark.parametrize(
    ("payload", "id"),
    [
        ({"id": "Flow/1", "pathspec": "Flow/1"}, "Flow/1"),
        ({"id": UUID.upper()}, UUID.upper()),
        ({"id": "Flow/1", "pathspec": "Flow/2"}, None),
        ({"id": UUID.replace("-", "")}, None),
        ({"id": "order-7"}, None),
        ({"id": 7}, None),
        ({"id": None, "pathspec": None}, None),
        ({"id": "", "pathspec": ""}, None),
        ({}, None),
    ],
)
def test_only_a_uuid_or_the_pathspec_identifies_the_event(payload: dict[str, Any], id: str | None) -> None:
    assert identity(payload) == id


def test_outside_a_deployed_workflow_safe_publish_does_what_metaflows_does(
    webhook: Webhook, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs = MetaflowsArgoEvent("e", url=f"http://127.0.0.1:{webhook.server_port}")
    for event, error in ((theirs, metaflows.ArgoEventException), (ArgoEvent("e"), NotPublished)):
        assert event.safe_publish() is None
        assert event.publish(force=False) is None
        assert capsys.readouterr().err.count("was not published") == 2
        with pytest.raises(error, match="was not published"):
            event.safe_publish(ignore_errors=False)
    assert webhook.bodies == []


def test_inside_a_deployed_workflow_safe_publish_publishes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARGO_WORKFLOW_TEMPLATE", "model-refresh")
    # Getting as far as to miss Kafka shows that it would have been published.
    with pytest.raises(NotConfigured, match="no Kafka is configured"):
        ArgoEvent("e").safe_publish(ignore_errors=False)


def test_a_failure_at_once_is_said_once_and_gives_none(capsys: pytest.CaptureFixture[str]) -> None:
    outcomes: list[Delivery] = []
    assert ArgoEvent("e", on_delivery=outcomes.append).publish() is None
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith("headrace-publisher: Event e was not published: no Kafka is configured: ")
    assert [(outcome.event, str(outcome.error) in said) for outcome in outcomes] == [("e", True)]


@pytest.mark.parametrize("payload", [{"a": float("nan")}, {"a": object()}, {7: 1}])
def test_an_unusable_payload_is_a_failure_like_any_other(
    payload: dict[Any, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    event = ArgoEvent("e", url="kafka://127.0.0.1:1")
    assert event.publish(payload) is None
    assert "cannot be written as JSON" in capsys.readouterr().err


def test_the_callers_payload_is_left_alone() -> None:
    payload = {"a": "1"}
    ArgoEvent("e", payload=payload).add_to_payload("b", 2)
    assert payload == {"a": "1"}


def test_an_unusable_name_is_refused_where_it_is_given() -> None:
    with pytest.raises(InvalidEventName):
        ArgoEvent("data updated")


def test_a_callable_name_is_asked_at_each_publish(capsys: pytest.CaptureFixture[str]) -> None:
    names = iter(["bad name", "e"])
    event = ArgoEvent(lambda: next(names))
    with pytest.raises(InvalidEventName, match="bad name"):
        event.publish(ignore_errors=False)
    with pytest.raises(NotConfigured):
        event.publish(ignore_errors=False)
    assert event.publish() is None, "a callable that raises is a failure like any other"
    assert "was not published" in capsys.readouterr().err


@pytest.mark.parametrize("name", [lambda: 7, lambda: None])
def test_a_callable_that_gives_no_string_is_refused(name: Any) -> None:
    with pytest.raises(InvalidEventName, match="must be a string"):
        ArgoEvent(name).publish(ignore_errors=False)


@pytest.mark.parametrize("url", ["http://ingress:12000/event", "https://ingress"])
def test_an_http_url_is_refused_with_the_way_to_go(url: str) -> None:
    with pytest.raises(NotConfigured, match=r"is an HTTP address\. .* use metaflow\.integrations\.ArgoEvent"):
        ArgoEvent("e", url=url)


@pytest.mark.parametrize("url", ["nats://n:4222", "kafka://", "kafka:///"])
def test_a_url_that_names_no_kafka_is_refused(url: str) -> None:
    with pytest.raises(NotConfigured, match="give kafka://host:port"):
        ArgoEvent("e", url=url)
