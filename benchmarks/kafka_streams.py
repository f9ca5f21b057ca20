"""Kafka Streams: the baseline of the join, compiled and run where a Java compiler is at hand."""

from __future__ import annotations

import os
import shutil
import subprocess
import uuid
from pathlib import Path

from benchmarks.events import fact, fill
from headrace.edges.kafka.jars import resolve_class_path
from headrace.settings import load
from tests.support.kafka import create_topics

SOURCE = Path(__file__).parent / "streams" / "WindowedJoin.java"
# The broker's own version has no published Streams.
KAFKA_STREAMS = "org.apache.kafka:kafka-streams:4.3.1"
NO_LOG = "org.slf4j:slf4j-nop:1.7.36"
PARTITIONS = 4
TIMEOUT_S = 300.0


def no_streams_because() -> str | None:
    """Return why Kafka Streams cannot run here; None where it can."""
    if shutil.which("javac") is None or shutil.which("java") is None:
        return "there is no JDK (javac and java) on the PATH"
    return None


class KafkaStreams:
    """A compiled program, and the topics that it joins."""

    def __init__(self, bootstrap_servers: str, directory: Path, pairs: int) -> None:
        """Download the jars, compile, and fill the topics with `pairs` pairs."""
        self._servers, self._directory, self._pairs = bootstrap_servers, directory, pairs
        directory.mkdir(parents=True)
        jars = resolve_class_path(lambda _: None, (KAFKA_STREAMS, NO_LOG))
        self._class_path = os.pathsep.join(map(str, (*jars, directory)))
        subprocess.run(["javac", "-cp", self._class_path, "-d", str(directory), str(SOURCE)], check=True)
        topics = ("streams-left", "streams-right")
        create_topics({"bootstrap.servers": bootstrap_servers}, dict.fromkeys(topics, PARTITIONS))
        settings = load({"HEADRACE_BOOTSTRAP_SERVERS": bootstrap_servers})
        fill(
            settings,
            ((topic, -1, f"set-{number}".encode(), fact(number)) for number in range(pairs) for topic in topics),
        )

    def rate(self) -> float:
        """Join everything, under a name of its own; return the events a second."""
        name = f"streams-{uuid.uuid4().hex[:8]}"
        create_topics({"bootstrap.servers": self._servers}, {f"{name}-out": PARTITIONS})
        log = self._directory / f"{name}.log"
        command = ["java", "-Xmx1g", "-cp", self._class_path, "WindowedJoin", self._servers, name]
        command += ["streams-left", "streams-right", f"{name}-out", str(self._pairs), str(self._directory / name)]
        with log.open("wb") as errors:
            ended = subprocess.run(command, stdout=subprocess.PIPE, stderr=errors, timeout=TIMEOUT_S, check=False)
        numbers = [line for line in ended.stdout.decode().splitlines() if line.replace(".", "").isdigit()]
        if ended.returncode or not numbers:
            raise RuntimeError(f"Kafka Streams failed: {ended.stdout.decode()[-1000:]} {log.read_text()[-2000:]}")
        return float(numbers[-1])
