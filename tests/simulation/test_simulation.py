"""The simulation itself: a seed always means the same, and stand-ins speak only words that the real clients have."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
from confluent_kafka import Consumer, Message, Producer

from headrace.edges.faust.fenced_producer import FencedProducer
from headrace.edges.kube.api import KubeApi
from tests.simulation.kafka_consumer import SimConsumer, SimMessage
from tests.simulation.kafka_producer import LoopProducer, SimProducer
from tests.simulation.kubernetes import SimApi


def digest_of(seed: int) -> str:
    """Run a seed in a process of its own; return the digest of all that happened."""
    command = [sys.executable, "-m", "tests.simulation", "--seed", str(seed)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONHASHSEED"}
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    found = re.search(r"\(trace ([0-9a-f]{8})\)", ended.stdout)
    assert found is not None, ended.stdout
    return found[1]


def test_a_seed_means_the_same_each_time() -> None:
    assert digest_of(1126) == digest_of(1126)
    assert digest_of(1126) != digest_of(1127)


@pytest.mark.parametrize(
    ("stand_in", "real"),
    [
        (SimConsumer, Consumer),
        (SimMessage, Message),
        (SimProducer, Producer),
        (LoopProducer, FencedProducer),
        (SimApi, KubeApi),
    ],
)
def test_stand_ins_have_no_words_of_their_own(stand_in: type, real: type) -> None:
    words = {name for name in vars(stand_in) if not name.startswith("_")}
    assert words <= set(dir(real))
