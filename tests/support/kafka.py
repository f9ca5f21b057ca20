"""Real Kafkas for tests: plain and secured embedded ones, one in Docker, and what it takes to use them."""

from __future__ import annotations

import datetime
import ipaddress
import secrets
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from headrace.edges.kafka.embedded import EmbeddedKafka, nothing
from headrace.edges.kafka.server_properties import ListenerSecurity, server_properties
from headrace.edges.loopback_port import free_port

DOCKER_IMAGE = "apache/kafka:4.4.0"
SCRAM_MECHANISM = "SCRAM-SHA-512"
CLIENT_USER = "headrace"
# The broker connects to itself through the same listener, as a user of its own.
BROKER_USER = "broker"

# How long a test waits for anything at all before it fails: a bound, not an expectation.
DEADLINE_S = 60.0

# Tests create their topics themselves: a topic that Headrace forgot to create must not come about by
# accident.
TEST_PROPERTIES: Mapping[str, str] = {"auto.create.topics.enable": "false"}

_DOCKER_ANSWER_TIMEOUT_S = 10.0
_DOCKER_PORT = 9092
_DOCKER_CONTROLLER_PORT = 9093
_CERTIFICATE_DAYS = 2


@dataclass(frozen=True)
class KafkaServer:
    """A running Kafka that takes plain connections."""

    # `host:port`, as HEADRACE_BOOTSTRAP_SERVERS wants it.
    bootstrap_servers: str


@dataclass(frozen=True)
class SecureKafka:
    """A running Kafka that takes SASL/SCRAM over TLS only."""

    bootstrap_servers: str
    # The settings with which Headrace gets in, for a process's environment.
    environment: Mapping[str, str]
    broker: EmbeddedKafka

    def client_properties(self, *, password: str | None = None) -> dict[str, str]:
        """Return librdkafka's properties for a client; `password` replaces the right one."""
        prefix = "HEADRACE_KAFKA_"
        properties = {
            name.removeprefix(prefix).lower().replace("_", "."): value
            for name, value in self.environment.items()
            if name.startswith(prefix)
        }
        if password is not None:
            properties["sasl.password"] = password
        return {"bootstrap.servers": self.bootstrap_servers, **properties}


def docker_answers() -> bool:
    """Say whether a Docker daemon, and not only its command, is there."""
    try:
        asked = subprocess.run(
            ["docker", "version", "--format", "{{.Server.Version}}"],
            capture_output=True,
            timeout=_DOCKER_ANSWER_TIMEOUT_S,
            check=False,
        )
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return False
    return asked.returncode == 0


@contextmanager
def docker_kafka() -> Iterator[KafkaServer]:
    """Run the official image, in KRaft mode, with the very properties that the embedded Kafka has."""
    from testcontainers.core.container import DockerContainer
    from testcontainers.core.waiting_utils import wait_for_logs

    port = free_port()
    properties = server_properties(
        data=Path("/tmp/kraft-combined-logs"),
        port=port,
        controller_port=_DOCKER_CONTROLLER_PORT,
        security=ListenerSecurity(),
        extra={
            **TEST_PROPERTIES,
            # Only what is listened on differs: the container's own address, to which Docker forwards the
            # port.
            "listeners": f"CLIENT://0.0.0.0:{_DOCKER_PORT},CONTROLLER://127.0.0.1:{_DOCKER_CONTROLLER_PORT}",
        },
    )
    container = DockerContainer(DOCKER_IMAGE).with_bind_ports(_DOCKER_PORT, port)
    for name, value in properties.items():
        container.with_env("KAFKA_" + name.upper().replace(".", "_"), value)
    with container:
        wait_for_logs(container, "Kafka Server started", timeout=60)
        yield KafkaServer(f"127.0.0.1:{port}")


@contextmanager
def new_kafka(state_dir: Path) -> Iterator[KafkaServer]:
    """Run the official image where a Docker daemon answers, else the embedded Kafka; it creates no topic by itself.

    Docker's branch is written against testcontainers' interface, and was not run on the machine where it was written.
    """
    with docker_kafka() if docker_answers() else embedded_kafka(state_dir, print) as server:
        yield server


@contextmanager
def embedded_kafka(state_dir: Path, progress: Callable[[str], None] = nothing) -> Iterator[KafkaServer]:
    """Run the embedded Kafka with its data in `state_dir`, on a free port."""
    broker = EmbeddedKafka(state_dir, extra_properties=TEST_PROPERTIES)
    broker.start(progress)
    try:
        yield KafkaServer(broker.bootstrap_servers)
    finally:
        broker.stop()


@contextmanager
def secure_kafka(state_dir: Path, progress: Callable[[str], None] = nothing) -> Iterator[SecureKafka]:
    """Run the embedded Kafka so that clients need TLS, a trusted authority, and a SCRAM user's password."""
    state_dir.mkdir(parents=True, exist_ok=True)
    authority_file = state_dir / "authority.pem"
    chain, key = _server_certificate(authority_file)
    passwords = {user: secrets.token_urlsafe(16) for user in (CLIENT_USER, BROKER_USER)}
    settings = {
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": SCRAM_MECHANISM,
        "sasl.username": CLIENT_USER,
        "sasl.password": passwords[CLIENT_USER],
        "ssl.ca.location": str(authority_file),
    }
    security = ListenerSecurity(
        protocol="SASL_SSL",
        broker_properties=_secure_properties(authority_file.read_text(), chain, key, passwords[BROKER_USER]),
        format_arguments=tuple(
            argument
            for user, password in passwords.items()
            for argument in ("--add-scram", f"{SCRAM_MECHANISM}=[name={user},password={password}]")
        ),
        client_properties=settings,
    )
    broker = EmbeddedKafka(state_dir, extra_properties=TEST_PROPERTIES, security=security)
    environment = {_setting_name(name): value for name, value in settings.items()}
    environment["HEADRACE_BOOTSTRAP_SERVERS"] = broker.bootstrap_servers
    broker.start(progress)
    try:
        yield SecureKafka(broker.bootstrap_servers, environment, broker)
    finally:
        broker.stop()


def _setting_name(librdkafka_property: str) -> str:
    return "HEADRACE_KAFKA_" + librdkafka_property.upper().replace(".", "_")


def create_topics(client_properties: Mapping[str, str], partitions: Mapping[str, int], **config: str) -> None:
    """Create the topics (name to number of partitions) and return once Kafka has confirmed each of them.

    Underscores in the names of `config` stand for dots.
    """
    admin = AdminClient(dict(client_properties))
    settings = {name.replace("_", "."): value for name, value in config.items()}
    topics = [NewTopic(name, count, replication_factor=1, config=settings) for name, count in partitions.items()]
    for created in admin.create_topics(topics, operation_timeout=DEADLINE_S).values():
        created.result(DEADLINE_S)


def publish(client_properties: Mapping[str, str], topic: str, values: list[bytes]) -> None:
    """Produce the values, in this order, and return once the broker has acknowledged each.

    Raises `KafkaException` with the first refusal of the broker.
    """
    refusals: list[KafkaError] = []
    producer = Producer({**client_properties, "message.timeout.ms": int(DEADLINE_S * 1000)})
    for value in values:
        producer.produce(topic, value, on_delivery=lambda error, _: refusals.append(error) if error else None)
    left = producer.flush(DEADLINE_S)
    if refusals:
        raise KafkaException(refusals[0])
    assert left == 0, f"{left} records for {topic} were neither acknowledged nor refused within {DEADLINE_S:g} s"


def read(client_properties: Mapping[str, str], topic: str, count: int) -> list[bytes | None]:
    """Read the first `count` values of the topic's partition 0."""
    with closing(Consumer({**client_properties, "group.id": "reader", "enable.auto.commit": False})) as consumer:
        consumer.assign([TopicPartition(topic, 0, 0)])
        records = consumer.consume(count, DEADLINE_S)
        assert [record.error() for record in records] == [None] * count
        return [record.value() for record in records]


def wait_until(condition: Callable[[], bool], what: str, deadline_s: float = DEADLINE_S) -> None:
    """Return once the condition holds; fail with what was awaited when the deadline passes."""
    deadline = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen within {deadline_s:g} s"
        time.sleep(0.02)


def _secure_properties(authority: str, chain: str, key: str, broker_password: str) -> dict[str, str]:
    login = "org.apache.kafka.common.security.scram.ScramLoginModule"
    return {
        "sasl.enabled.mechanisms": SCRAM_MECHANISM,
        "sasl.mechanism.inter.broker.protocol": SCRAM_MECHANISM,
        f"listener.name.client.{SCRAM_MECHANISM.lower()}.sasl.jaas.config": (
            f'{login} required username="{BROKER_USER}" password="{broker_password}";'
        ),
        "ssl.keystore.type": "PEM",
        "ssl.keystore.certificate.chain": chain,
        "ssl.keystore.key": key,
        "ssl.truststore.type": "PEM",
        "ssl.truststore.certificates": authority,
    }


def _server_certificate(authority_file: Path) -> tuple[str, str]:
    """Write a new authority's certificate; return a server's certificate chain and key from it, both PEM."""
    authority_key = ec.generate_private_key(ec.SECP256R1())
    authority_name = _name("Headrace tests' authority")
    authority = (
        _certificate(authority_name, authority_name, authority_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(authority_key, hashes.SHA256())
    )
    server_key = ec.generate_private_key(ec.SECP256R1())
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    server = (
        _certificate(_name("localhost"), authority_name, server_key.public_key())
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(
            # The broker is its own client too.
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
            critical=False,
        )
        .sign(authority_key, hashes.SHA256())
    )
    authority_pem = authority.public_bytes(serialization.Encoding.PEM)
    authority_file.write_bytes(authority_pem)
    chain = server.public_bytes(serialization.Encoding.PEM) + authority_pem
    key = server_key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return chain.decode(), key.decode()


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _certificate(
    subject: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        # A clock that was set back a little must not make the certificate one of the future.
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=_CERTIFICATE_DAYS))
    )
