"""Fixtures of tests in which the real Metaflow deploys flows: an S3, an engine that watches Sensors, and teams."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.edges.loopback_port import free_port
from tests.support.engine import Engine
from tests.support.exclusive import exclusive
from tests.support.kafka import KafkaServer
from tests.support.kube import KubeServer
from tests.support.metaflow_cluster import ObjectStore
from tests.support.metaflow_team import Team
from tests.support.tenant import Tenant
from tests.system.engine_fixtures import new_engine


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    """One S3 for the whole session."""
    started = ObjectStore(tmp_path_factory.mktemp("moto") / "log")
    try:
        yield started
    finally:
        started.stop()


@pytest.fixture(scope="module")
def metaflow_engine(kafka: KafkaServer, kube: KubeServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """One process of each role, with Sensors and an ingress, that watches every namespace.

    Of such engines there is one at a time: two that share the Sensors and the events would start the same Workflows,
    and a test of what one of them makes would find what the other did.
    """
    address = f"127.0.0.1:{free_port()}"
    running = new_engine(kafka, kube, tmp_path_factory.mktemp("engine"), HEADRACE_INGRESS_ADDRESS=address)
    with exclusive(kube.kubeconfig_path.with_suffix(".sensors")):
        try:
            running.start_and_wait("route", "join", "submit", "sync", "ingress")
            yield running
            running.stop()
        finally:
            running.abandon()


@pytest.fixture
def team(metaflow_engine: Engine, kube: KubeServer, store: ObjectStore, tmp_path: Path) -> Team:
    """The test's own namespace, with no flow in it yet."""
    return Team(
        Tenant(metaflow_engine, kube, {"bootstrap.servers": metaflow_engine.bootstrap_servers}), store, tmp_path
    )
