"""Fixtures that run the engine against the session's Kafka and API server."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.engine import Engine
from tests.support.kafka import KafkaServer
from tests.support.kube import KubeServer
from tests.support.tenant import Tenant


def new_engine(kafka: KafkaServer, kube: KubeServer, directory: Path, **environment: str) -> Engine:
    """Prepare an engine with topics of its own that may start Workflows in every namespace."""
    return Engine(
        {
            "HEADRACE_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
            "HEADRACE_TOPIC_PREFIX": f"h{uuid.uuid4().hex[:8]}.",
            "HEADRACE_NAMESPACES": "*",
            "KUBECONFIG": str(kube.kubeconfig_path),
            **environment,
        },
        directory,
    )


@pytest.fixture(scope="module")
def engine(kafka: KafkaServer, kube: KubeServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """One process of each role, ready, for a whole module; each test is a tenant of its own."""
    running = new_engine(kafka, kube, tmp_path_factory.mktemp("engine"))
    try:
        running.start_and_wait()
        yield running
        running.stop()
    finally:
        running.abandon()


@pytest.fixture
def idle_engine(kafka: KafkaServer, kube: KubeServer, tmp_path: Path) -> Iterator[Engine]:
    """An engine of the test's own, none of whose roles runs yet."""
    prepared = new_engine(kafka, kube, tmp_path / "engine")
    try:
        yield prepared
        prepared.stop()
    finally:
        prepared.abandon()


@pytest.fixture
def mortal_engine(idle_engine: Engine) -> Engine:
    """An idle engine for tests that kill its processes: what a dead one held is free after 18 s.

    By default that takes the join 45 s. Less than this would also shorten how long it waits for deliveries so much
    that it may give up on a busy machine.
    """
    idle_engine.environment["HEADRACE_KAFKA_SESSION_TIMEOUT_MS"] = "18000"
    return idle_engine


@pytest.fixture
def tenant(engine: Engine, kube: KubeServer) -> Tenant:
    """The test's own corner of the module's engine."""
    return Tenant(engine, kube, {"bootstrap.servers": engine.bootstrap_servers})
