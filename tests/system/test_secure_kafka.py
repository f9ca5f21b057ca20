"""The Kafka that tests of the whole path use: SASL/SCRAM over TLS, with the embedded Kafka's own code below."""

from __future__ import annotations

from pathlib import Path

import pytest
from confluent_kafka import KafkaError, KafkaException, Producer

from tests.support.kafka import DEADLINE_S, SecureKafka, create_topics, publish, read, wait_until


def first_error(client: dict[str, str], code: int) -> KafkaError:
    """Connect until the client reports an error of this code."""
    errors: list[KafkaError] = []
    producer = Producer({**client, "error_cb": errors.append, "log_level": 0})

    def reported() -> bool:
        producer.poll(0.05)
        return any(error.code() == code for error in errors)

    wait_until(reported, f"the client's error {code}")
    return next(error for error in errors if error.code() == code)


def test_the_right_password_over_tls_gets_in(secure_kafka: SecureKafka, topic_prefix: str) -> None:
    topic = f"{topic_prefix}secrets"
    client = secure_kafka.client_properties()
    create_topics(client, {topic: 1})
    publish(client, topic, [b"for the authorised"])
    assert read(client, topic, 1) == [b"for the authorised"]


def test_a_transaction_commits_where_the_broker_must_log_in_to_itself(
    secure_kafka: SecureKafka, topic_prefix: str
) -> None:
    topic = f"{topic_prefix}transactional"
    client = secure_kafka.client_properties()
    create_topics(client, {topic: 1})
    producer = Producer({**client, "transactional.id": topic})
    producer.init_transactions(DEADLINE_S)
    producer.begin_transaction()
    producer.produce(topic, b"committed")
    producer.commit_transaction(DEADLINE_S)
    assert read({**client, "isolation.level": "read_committed"}, topic, 1) == [b"committed"]


def test_a_kafka_for_tests_creates_no_topic_by_itself(secure_kafka: SecureKafka, topic_prefix: str) -> None:
    client = {**secure_kafka.client_properties(), "topic.metadata.propagation.max.ms": "0"}
    with pytest.raises(KafkaException, match="UNKNOWN_TOPIC"):
        publish(client, f"{topic_prefix}never-created", [b"lost"])


def test_a_wrong_password_is_refused(secure_kafka: SecureKafka) -> None:
    refusal = first_error(secure_kafka.client_properties(password="guessed"), KafkaError._AUTHENTICATION)
    assert "Authentication failed" in refusal.str()


def test_a_client_that_does_not_know_the_authority_refuses_the_broker(secure_kafka: SecureKafka) -> None:
    client = secure_kafka.client_properties()
    del client["ssl.ca.location"]
    refusal = first_error(client, KafkaError._SSL)
    assert "certificate verify failed" in refusal.str()


def test_the_environment_is_what_the_engine_reads(secure_kafka: SecureKafka) -> None:
    assert secure_kafka.environment["HEADRACE_BOOTSTRAP_SERVERS"] == secure_kafka.bootstrap_servers
    assert secure_kafka.environment["HEADRACE_KAFKA_SECURITY_PROTOCOL"] == "SASL_SSL"
    assert secure_kafka.environment["HEADRACE_KAFKA_SASL_MECHANISM"] == "SCRAM-SHA-512"
    assert Path(secure_kafka.environment["HEADRACE_KAFKA_SSL_CA_LOCATION"]).is_file()
