"""The embedded Kafka as `headrace up` uses it: real JVMs, their data and deaths, and refused starts."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from headrace.edges.kafka.embedded import EmbeddedKafka, EmbeddedKafkaFailed
from headrace.edges.kafka.jars import KafkaJarsUnavailable, resolve_class_path
from headrace.edges.loopback_port import LOOPBACK, free_port
from headrace.edges.state_lock import StateDirectoryInUse
from tests.support.kafka import DEADLINE_S, KafkaServer, create_topics, publish, read, wait_until


def plain(broker: EmbeddedKafka | KafkaServer) -> dict[str, str]:
    return {"bootstrap.servers": broker.bootstrap_servers}


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[EmbeddedKafka]:
    """A Kafka of the test's own, not yet started; whatever the test leaves running is killed."""
    own = EmbeddedKafka(tmp_path)
    yield own
    own.kill()


@dataclass(frozen=True)
class Owner:
    """A process that owns an embedded Kafka."""

    process: subprocess.Popen[str]
    jvm_pid: int
    bootstrap_servers: str


@contextmanager
def owner(state_dir: Path) -> Iterator[Owner]:
    """Run a process that owns an embedded Kafka, as the leader of a process group like a terminal's job."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.kafka_owner", str(state_dir)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        process_group=0,
    )
    with process:
        assert process.stdout is not None
        pid, bootstrap_servers = process.stdout.readline().split()
        try:
            yield Owner(process, int(pid), bootstrap_servers)
        finally:
            process.kill()


def test_what_is_published_can_be_read(kafka: KafkaServer, topic_prefix: str) -> None:
    topic = f"{topic_prefix}events"
    create_topics(plain(kafka), {topic: 1})
    publish(plain(kafka), topic, [b"first", b"second"])
    assert read(plain(kafka), topic, 2) == [b"first", b"second"]


def test_a_start_says_what_it_does(broker: EmbeddedKafka) -> None:
    steps: list[str] = []
    broker.start(steps.append)
    assert [step.split()[0] for step in steps if not step.startswith("downloaded")] == [
        "resolving",
        "formatting",
        "starting",
        "Kafka",
    ]
    assert steps[-1] == f"Kafka ready on {broker.bootstrap_servers}"


def test_a_person_may_publish_before_any_trigger_exists(broker: EmbeddedKafka) -> None:
    broker.start()
    publish(plain(broker), "data_updated", [b"{}"])
    assert read(plain(broker), "data_updated", 1) == [b"{}"]


@pytest.mark.parametrize("end", [EmbeddedKafka.stop, EmbeddedKafka.kill])
def test_a_restart_keeps_data_and_identity(
    broker: EmbeddedKafka, tmp_path: Path, end: Callable[[EmbeddedKafka], None]
) -> None:
    broker.start()
    cluster_id, first_pid = broker.cluster_id, broker.pid
    publish(plain(broker), "kept", [b"before"])
    end(broker)
    assert broker.pid is None

    again = EmbeddedKafka(tmp_path)
    again.start()
    try:
        assert again.pid not in (None, first_pid)
        assert again.cluster_id == cluster_id is not None
        publish(plain(again), "kept", [b"after"])
        assert read(plain(again), "kept", 2) == [b"before", b"after"]
    finally:
        again.kill()


def test_a_jvm_that_died_by_itself_can_be_started_again_at_the_same_address(broker: EmbeddedKafka) -> None:
    broker.start()
    address, pid = broker.bootstrap_servers, broker.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not broker.is_running(), "noticing the death of the JVM")
    broker.start()
    assert broker.bootstrap_servers == address
    assert AdminClient({**plain(broker)}).list_topics(timeout=DEADLINE_S).brokers


def test_a_state_directory_serves_one_kafka_at_a_time(broker: EmbeddedKafka, tmp_path: Path) -> None:
    broker.start()
    second = EmbeddedKafka(tmp_path)
    with pytest.raises(StateDirectoryInUse, match=rf"another `headrace up` \(pid {os.getpid()}\)"):
        second.start()
    assert broker.is_running()
    broker.stop()
    second.start()
    second.kill()


def test_a_state_directory_may_have_any_name(tmp_path: Path) -> None:
    broker = EmbeddedKafka(tmp_path / "an état of\\affairs")
    broker.start()
    try:
        publish(plain(broker), "somewhere", [b"kept"])
    finally:
        broker.stop()
    assert (tmp_path / "an état of\\affairs" / "kafka" / "data" / "somewhere-0").is_dir()
    assert broker.log_file.exists()


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    port = free_port()
    with socket.create_server((LOOPBACK, port)):
        broker = EmbeddedKafka(tmp_path, port)
        with pytest.raises(EmbeddedKafkaFailed, match=rf"port {port} .* is in use by another program"):
            broker.start()
        assert not broker.is_running()
    # The refused start let go of the state directory.
    broker.start()
    broker.kill()


def test_a_kafka_that_ends_while_starting_says_why(broker: EmbeddedKafka, tmp_path: Path) -> None:
    broker.start()
    broker.stop()
    data = tmp_path / "kafka" / "data" / "meta.properties"
    data.write_text(data.read_text().replace("node.id=1", "node.id=7"))
    with pytest.raises(EmbeddedKafkaFailed, match=r"Kafka ended while it started(.|\n)*Stored node id 7"):
        broker.start()
    assert not broker.is_running()


def test_an_unknown_setting_value_is_refused_before_anything_is_formatted(tmp_path: Path) -> None:
    broker = EmbeddedKafka(tmp_path, extra_properties={"num.partitions": "several"})
    with pytest.raises(EmbeddedKafkaFailed, match=r"num\.partitions"):
        broker.start()
    assert broker.cluster_id is None


def test_without_network_one_sentence_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("M2_REPO", str(tmp_path))
    monkeypatch.setenv("HTTPS_PROXY", f"http://{LOOPBACK}:{free_port()}")
    steps: list[str] = []
    with pytest.raises(KafkaJarsUnavailable, match=r"could not be downloaded .*: check the network") as refusal:
        resolve_class_path(steps.append)
    assert "\n" not in str(refusal.value)
    assert "first time: about" in steps[0]


def test_the_jvm_dies_with_its_parent(tmp_path: Path) -> None:
    with owner(tmp_path) as killed:
        killed.process.kill()
        killed.process.wait()
        wait_until(lambda: not is_alive(killed.jvm_pid), "the end of the JVM")
    # The directory of a killed `up` can be used at once.
    with owner(tmp_path) as successor:
        assert successor.jvm_pid != killed.jvm_pid


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent died")
def test_the_jvm_dies_with_its_guard(broker: EmbeddedKafka) -> None:
    broker.start()
    pid = broker.pid
    assert pid is not None
    status = Path(f"/proc/{pid}/status").read_text()
    guard_pid = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("PPid:"))
    assert guard_pid != os.getpid()
    os.kill(guard_pid, signal.SIGKILL)
    wait_until(lambda: not is_alive(pid), "the end of the JVM")


def test_ctrl_c_leaves_kafka_running_until_its_owner_stops_it(tmp_path: Path) -> None:
    with owner(tmp_path) as interrupted:
        assert interrupted.process.stdout is not None
        os.killpg(interrupted.process.pid, signal.SIGINT)
        assert interrupted.process.stdout.readline() == "interrupted\n"
        client = {"bootstrap.servers": interrupted.bootstrap_servers}
        publish(client, "last-words", [b"of a role"])
        assert is_alive(interrupted.jvm_pid)
        assert os.getsid(interrupted.jvm_pid) != os.getsid(interrupted.process.pid)
        # The end of its standard input makes the owner stop Kafka and itself.
        interrupted.process.communicate(timeout=DEADLINE_S)
        assert interrupted.process.returncode == 0
        assert not is_alive(interrupted.jvm_pid)
