"""Fixtures that hand a real Kafka to tests; one serves a whole session, so tests need topics of their own.

`kafka` is, in this order: the broker that HEADRACE_TEST_BOOTSTRAP_SERVERS names; the official image, where a
Docker daemon answers (written against testcontainers' interface, not run on the machine where it was
written); the embedded Kafka.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.edges.kafka.embedded import EmbeddedKafkaFailed
from headrace.edges.kafka.jars import KafkaJarsUnavailable
from tests.support import kafka as servers

BOOTSTRAP_VARIABLE = "HEADRACE_TEST_BOOTSTRAP_SERVERS"


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.KafkaServer]:
    """A Kafka for the whole session; it creates no topic by itself."""
    given = os.environ.get(BOOTSTRAP_VARIABLE)
    if given:
        yield servers.KafkaServer(given)
    elif servers.docker_answers():
        with servers.docker_kafka() as server:
            yield server
    else:
        yield from _embedded(tmp_path_factory.mktemp("kafka"))


def _embedded(state_dir: Path) -> Iterator[servers.KafkaServer]:
    try:
        with servers.embedded_kafka(state_dir, print) as server:
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
