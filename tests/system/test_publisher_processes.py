"""Publishing against a real Kafka as whole programs do it: ArgoEvent, ends of processes, forks, credentials."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from collections import Counter
from datetime import datetime
from pathlib import Path

import pytest

from headrace_publisher import ArgoEvent, Delivery, DeliveryFailed, Publisher
from tests.support.kafka import DEADLINE_S, KafkaServer, SecureKafka, create_topics
from tests.support.published import create_visible_topic, headers, payload, published, published_ids, records


@pytest.fixture
def topic(kafka: KafkaServer, topic_prefix: str) -> str:
    """A new topic with two partitions."""
    name = f"{topic_prefix}data_updated"
    create_visible_topic(kafka, name)
    return name


def test_an_argo_event_arrives_with_metaflows_fields(
    kafka: KafkaServer, topic: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HEADRACE_BOOTSTRAP_SERVERS", kafka.bootstrap_servers)
    outcomes: list[Delivery] = []
    event = ArgoEvent(topic, payload={"a": 1, "b": 1}, on_delivery=outcomes.append)
    id = event.add_to_payload("b", 2).publish({"c": 3}, ignore_errors=False)
    (record,) = published(kafka, topic)
    arrived = payload(record)
    assert list(arrived) == ["name", "id", "timestamp", "utc_date", "generated-by-metaflow", "a", "b", "c"]
    assert (arrived["name"], arrived["a"], arrived["b"], arrived["c"]) == (topic, 1, "2", 3)
    assert str(uuid.UUID(id)) == id == arrived["id"] == headers(record)["ce_id"]
    time = datetime.fromisoformat(headers(record)["ce_time"])
    assert abs(time.timestamp() - int(str(arrived["timestamp"]))) < 2
    assert arrived["utc_date"] == datetime.fromtimestamp(int(str(arrived["timestamp"])), time.tzinfo).strftime("%Y%m%d")
    assert [(outcome.id, outcome.error) for outcome in outcomes] == [(id, None)]
    assert capsys.readouterr().err == ""


def test_argo_events_with_an_id_of_their_own(kafka: KafkaServer, topic: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HEADRACE_BOOTSTRAP_SERVERS", raising=False)
    own = str(uuid.uuid4())
    event = ArgoEvent(topic, url=f"kafka://{kafka.bootstrap_servers}/")
    assert event.publish({"id": own}, ignore_errors=False) == own
    for _ in range(2):
        assert event.publish({"id": "order-7"}, ignore_errors=False) == "order-7"
    ids = published_ids(kafka, topic)
    assert own in ids
    assert "order-7" not in ids
    assert len(set(ids)) == 3, "an order's id does not make its events one event"


def test_safe_publish_publishes_from_a_deployed_workflow_only(
    kafka: KafkaServer, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = ArgoEvent(topic, url=kafka.bootstrap_servers)
    monkeypatch.delenv("ARGO_WORKFLOW_TEMPLATE", raising=False)
    assert event.safe_publish() is None
    monkeypatch.setenv("ARGO_WORKFLOW_TEMPLATE", "model-refresh")
    id = event.safe_publish(ignore_errors=False)
    assert published_ids(kafka, topic) == [id]


def run(program: str, *arguments: str, cwd: Path) -> list[str]:
    """Runs a program that must end well and say nothing on stderr, and returns the lines of its output."""
    ended = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
        cwd=cwd,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout.splitlines()


def test_the_end_of_a_process_delivers_what_it_published(kafka: KafkaServer, topic: str, tmp_path: Path) -> None:
    (tmp_path / ".headrace").mkdir()
    (tmp_path / ".headrace" / "up.json").write_text(json.dumps({"bootstrap_servers": kafka.bootstrap_servers}))
    program = """
import sys
from headrace_publisher import ArgoEvent, Publisher
publisher = Publisher()
for number in range(1000):
    print(publisher.publish(sys.argv[1], {"number": number}))
print(ArgoEvent(sys.argv[1]).publish())
"""
    ids = run(program, topic, cwd=tmp_path)
    assert len(ids) == 1001
    assert Counter(published_ids(kafka, topic)) == Counter(ids)


def test_a_forked_child_publishes_its_own_events_and_nothing_of_its_parents(
    kafka: KafkaServer, topic: str, tmp_path: Path
) -> None:
    program = """
import os, sys
from headrace_publisher import ArgoEvent, Publisher
servers, topic = sys.argv[1:]
publisher = Publisher(servers)
event = ArgoEvent(topic, url=servers)
ids = [publisher.publish(topic) for _ in range(100)] + [event.publish()]
child = os.fork()
ids = ids if child else []
ids += [publisher.publish(topic) for _ in range(100)] + [event.publish()]
print(*ids, sep="\\n", flush=True)
if child:
    assert os.waitpid(child, 0)[1] == 0
"""
    ids = run(program, kafka.bootstrap_servers, topic, cwd=tmp_path)
    assert len(ids) == 303
    assert Counter(published_ids(kafka, topic)) == Counter(ids)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_the_end_of_a_multiprocessing_child_delivers_too(
    kafka: KafkaServer, topic: str, tmp_path: Path, method: str
) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        """
import multiprocessing, sys
from headrace_publisher import ArgoEvent

def work(servers, topic):
    for _ in range(10):
        print(ArgoEvent(topic, url=servers).publish(), flush=True)

if __name__ == "__main__":
    servers, topic, method = sys.argv[1:]
    work(servers, topic)
    child = multiprocessing.get_context(method).Process(target=work, args=(servers, topic))
    child.start()
    child.join()
    assert child.exitcode == 0
"""
    )
    run_file = "import runpy, sys; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    ids = run(run_file, str(program), kafka.bootstrap_servers, topic, method, cwd=tmp_path)
    assert len(ids) == 20
    assert Counter(published_ids(kafka, topic)) == Counter(ids)


def test_credentials_come_from_the_environment(
    secure_kafka: SecureKafka, topic_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = f"{topic_prefix}secrets"
    create_topics(secure_kafka.client_properties(), {topic: 2})
    for name, value in secure_kafka.environment.items():
        monkeypatch.setenv(name, value)
    with Publisher() as publisher:
        publisher.deliver(topic, {"rows": 3})
    id = ArgoEvent(topic).publish(ignore_errors=False)
    assert id in [headers(record)["ce_id"] for record in records(secure_kafka.client_properties(), topic)]


def test_a_wrong_password_is_told_with_the_event(
    secure_kafka: SecureKafka, topic_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in secure_kafka.environment.items():
        monkeypatch.setenv(name, value)
    wrong = {"sasl.password": "wrong"}
    with (
        Publisher(kafka=wrong, delivery_timeout_s=1) as publisher,
        pytest.raises(DeliveryFailed, match=r"no broker could be reached .*[Aa]uthentication failed"),
    ):
        publisher.deliver(f"{topic_prefix}secrets", {})
