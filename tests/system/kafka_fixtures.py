"""Fixtures that hand a real Kafka to tests; one serves a whole session, so tests need topics of their own.

`kafka` is the broker that HEADRACE_TEST_BOOTSTRAP_SERVERS names; or, with `pytest -n`, the run's; or one of the
session's own, in Docker where a daemon answers, else embedded.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator

import pytest

from headrace.edges.kafka.embedded import EmbeddedKafkaFailed
from headrace.edges.kafka.jars import KafkaJarsUnavailable
from tests.support import kafka as servers

BOOTSTRAP_VARIABLE = "HEADRACE_TEST_BOOTSTRAP_SERVERS"


@pytest.fixture(scope="session")
def kafka(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.KafkaServer]:
    """A Kafka for the whole session; it creates no topic by itself."""
    shared = getattr(request.config, "workerinput", {}).get("servers", {})
    address = os.environ.get(BOOTSTRAP_VARIABLE) or shared.get("kafka")
    if address:
        yield servers.KafkaServer(address)
        return
    try:
        with servers.new_kafka(tmp_path_factory.mktemp("kafka")) as server:
            yield server
    except (EmbeddedKafkaFailed, KafkaJarsUnavailable) as error:
        pytest.fail(
            "These tests need a Kafka: start Docker, or connect to the network once, so that the embedded one can "
            f"be downloaded, or name a broker in {BOOTSTRAP_VARIABLE}. The embedded one failed: {error}",
            pytrace=False,
        )


@pytest.fixture(scope="session")
def secure_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.SecureKafka]:
    """An embedded Kafka for the whole session that takes SASL/SCRAM over TLS only."""
    with servers.secure_kafka(tmp_path_factory.mktemp("secure-kafka"), print) as server:
        yield server


@pytest.fixture
def topic_prefix() -> str:
    """A prefix that no other test's topics have, itself a legal topic name's beginning."""
    return f"t{uuid.uuid4().hex[:12]}."
