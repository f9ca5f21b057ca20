"""Fixtures of tests that send events by HTTP."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.engine import Engine
from tests.support.ingress import ingress, new_name, running
from tests.support.kafka import KafkaServer
from tests.support.published import create_visible_topic


@pytest.fixture(scope="module")
def open_ingress(kafka: KafkaServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """An ingress that takes events from everybody."""
    with running(ingress(kafka.bootstrap_servers, tmp_path_factory.mktemp("open"))) as engine:
        yield engine


@pytest.fixture
def topic(kafka: KafkaServer) -> str:
    """An event topic with two partitions."""
    name = new_name()
    create_visible_topic(kafka, name)
    return name
