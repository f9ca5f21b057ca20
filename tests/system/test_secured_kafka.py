"""The whole path where Kafka takes SASL/SCRAM over TLS only: the settings in the environment reach every client."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator

import pytest

from tests.support.engine import Engine
from tests.support.kafka import SecureKafka
from tests.support.kube import KubeServer
from tests.support.tenant import Bare, Tenant, parameters_of


@pytest.fixture(scope="module")
def engine(secure_kafka: SecureKafka, kube: KubeServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """One process of each role, which knows of the secured Kafka by HEADRACE_* alone."""
    environment = {
        **secure_kafka.environment,
        "HEADRACE_TOPIC_PREFIX": f"h{uuid.uuid4().hex[:8]}.",
        "HEADRACE_NAMESPACES": "*",
        "KUBECONFIG": str(kube.kubeconfig_path),
    }
    running = Engine(environment, tmp_path_factory.mktemp("engine"))
    try:
        running.start_and_wait()
        yield running
        running.stop()
    finally:
        running.abandon()


@pytest.fixture
def tenant(engine: Engine, kube: KubeServer, secure_kafka: SecureKafka) -> Tenant:
    return Tenant(engine, kube, secure_kafka.client_properties())


def test_deploy_publish_and_both_kinds_of_runs(tenant: Tenant) -> None:
    tenant.template("flow", {"n": None, "m": None})
    single, left, right = tenant.event("single"), tenant.event("left"), tenant.event("right")
    tenant.deploy(
        tenant.trigger("single", [single], "flow"),
        tenant.trigger("both", [{"name": left, "key": "event.k"}, {"name": right, "key": "event.k"}], "flow"),
    )
    published = tenant.engine.cli("publish", single, "-p", "n=1").expect(0).stdout.strip()
    tenant.engine.cli("publish", left, "--payload", '{"k": 1, "n": 2}').expect(0)
    tenant.produce([Bare(right, b'{"k": 1, "m": 3}'), Bare(right, b"no json")])
    tenant.settle(single, left, right)
    found = sorted(json.dumps(parameters_of(workflow), sort_keys=True) for workflow in tenant.workflows())
    assert found == ['{"m": "3", "n": "2"}', '{"n": "1"}']
    (row,) = tenant.runs("single")
    assert [used["id"] for used in row["events"]] == [published]
    assert [letter["reason"] for letter in tenant.dead_letters()] == ["not-json"]
    assert len(tenant.engine.here("events", right, "--json").expect(0).rows) == 2
    assert {row["role"] for row in tenant.engine.here("lag", "--json").expect(0).rows} == {"route", "join", "submit"}
    assert tenant.engine.here("status").expect(0).stderr == ""


@pytest.mark.parametrize("command", [("run", "route"), ("run", "join"), ("publish", "e", "-p", "n=1"), ("status",)])
def test_a_wrong_password_is_one_clear_sentence(engine: Engine, command: tuple[str, ...]) -> None:
    sentence = engine.cli(*command, HEADRACE_KAFKA_SASL_PASSWORD="guessed").refusal()
    assert engine.bootstrap_servers in sentence
    assert "uthentication" in sentence, sentence


def test_an_unknown_authority_is_one_clear_sentence(engine: Engine, kube: KubeServer) -> None:
    sentence = engine.cli("status", HEADRACE_KAFKA_SSL_CA_LOCATION=str(kube.ca_file)).refusal()
    assert engine.bootstrap_servers in sentence
    assert "certificate" in sentence, sentence
