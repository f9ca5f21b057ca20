"""Where Kafka is and how to talk to it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace_publisher import NotConfigured
from headrace_publisher.settings import bootstrap_servers, kafka_properties, resolve

WORDS = st.text("abcdefghijklmnopqrstuvwxyz0123456789", min_size=1, max_size=8)
# librdkafka's names: words joined by dots, and in a few cases by an underscore.
PROPERTY_NAMES = st.builds(
    lambda first, rest: first + "".join(joint + word for joint, word in rest),
    WORDS,
    st.lists(st.tuples(st.sampled_from("._"), WORDS), max_size=4),
)
OTHER_NAMES = {"metadata.broker.list", "delivery.timeout.ms", "queue.buffering.max.ms"}


def variable(name: str) -> str:
    """The variable for a property, as the documentation says it."""
    return "HEADRACE_KAFKA_" + name.upper().replace("_", "__").replace(".", "_")


@given(st.dictionaries(PROPERTY_NAMES.filter(lambda name: name not in OTHER_NAMES), st.text(min_size=1)))
def test_every_property_can_be_set_by_its_variable(properties: dict[str, str]) -> None:
    environment = {variable(name): value for name, value in properties.items()}
    assert kafka_properties(environment) == properties


def test_variables_and_the_properties_that_they_set() -> None:
    environment = {
        "HEADRACE_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "HEADRACE_KAFKA_SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL": "https://auth.example/Token",
        "HEADRACE_KAFKA_LOG__LEVEL": "7",
        "HEADRACE_KAFKA_DELIVERY_TIMEOUT_MS": "1000",
        "HEADRACE_KAFKA_SSL_CA_LOCATION": "",
        "HEADRACE_KAFKA": "nothing",
        "headrace_kafka_acks": "0",
        "KAFKA_ACKS": "0",
    }
    assert kafka_properties(environment) == {
        "security.protocol": "SASL_SSL",
        "sasl.oauthbearer.token.endpoint.url": "https://auth.example/Token",
        "log_level": "7",
        "message.timeout.ms": "1000",
    }


@pytest.fixture
def state(tmp_path: Path) -> dict[str, str]:
    """The environment of somebody whose `headrace up` runs on port 9000."""
    (tmp_path / "up.json").write_text(json.dumps({"bootstrap_servers": "127.0.0.1:9000"}))
    return {"HEADRACE_STATE": str(tmp_path)}


def test_brokers_come_from_the_first_that_names_them(state: dict[str, str]) -> None:
    by_property = {**state, "HEADRACE_KAFKA_BOOTSTRAP_SERVERS": "property:1"}
    by_variable = {**by_property, "HEADRACE_BOOTSTRAP_SERVERS": "variable:1"}
    assert bootstrap_servers("argument:1", by_variable) == "argument:1"
    assert bootstrap_servers(None, by_variable) == "variable:1"
    assert bootstrap_servers("", {**by_property, "HEADRACE_BOOTSTRAP_SERVERS": ""}) == "property:1"
    assert bootstrap_servers(None, {**state, "HEADRACE_KAFKA_METADATA_BROKER_LIST": "list:1"}) == "list:1"
    assert bootstrap_servers(None, state) == "127.0.0.1:9000"


def test_the_state_directory_is_dot_headrace_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".headrace").mkdir()
    (tmp_path / ".headrace" / "up.json").write_text('{"bootstrap_servers": "here:1"}')
    assert bootstrap_servers(None, {}) == "here:1"
    assert bootstrap_servers(None, {"HEADRACE_STATE": ""}) == "here:1"


def test_without_any_broker_it_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(NotConfigured, match=r"no Kafka is configured: set HEADRACE_BOOTSTRAP_SERVERS .*`headrace up`"):
        bootstrap_servers(None, {"HEADRACE_STATE": str(tmp_path / "none")})


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"bootstrap_servers": null}', '{"bootstrap_servers": ""}'])
def test_a_broken_state_file_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "up.json").write_text(text)
    with pytest.raises(NotConfigured, match=r"no Kafka is configured: .*up\.json"):
        bootstrap_servers(None, {"HEADRACE_STATE": str(tmp_path)})


def test_producers_are_idempotent_and_bounded_by_default() -> None:
    settings = resolve("b:1", {})
    properties = dict(settings.properties)
    assert properties["bootstrap.servers"] == "b:1"
    assert properties["enable.idempotence"] == "true"
    assert settings.delivery_timeout_s == 30
    assert int(properties["message.max.bytes"]) > settings.payload_bytes_max == 1024 * 1024
    assert settings.source.startswith("/headrace-publisher/")


def test_arguments_win_over_the_environment_and_it_over_the_defaults() -> None:
    environment = {"HEADRACE_KAFKA_LINGER_MS": "5", "HEADRACE_KAFKA_DELIVERY_TIMEOUT_MS": "7000"}
    from_environment = resolve("b:1", environment)
    assert dict(from_environment.properties)["linger.ms"] == "5"
    assert from_environment.delivery_timeout_s == 7
    assert resolve("b:1", environment, {"delivery_timeout_s": 2.5}).delivery_timeout_s == 2.5
    by_property = resolve("b:1", environment, {"kafka": {"queue.buffering.max.ms": "9"}})
    assert dict(by_property.properties)["linger.ms"] == "9"
    assert "queue.buffering.max.ms" not in dict(by_property.properties)


def test_the_brokers_of_the_argument_win_over_every_property() -> None:
    settings = resolve("b:1", {"HEADRACE_KAFKA_BOOTSTRAP_SERVERS": "other:1"})
    assert dict(settings.properties)["bootstrap.servers"] == "b:1"


def test_equal_settings_are_equal_and_keep_passwords_to_themselves() -> None:
    environment = {"HEADRACE_KAFKA_SASL_PASSWORD": "s3cret"}
    settings = resolve("b:1", environment)
    assert {settings: 1}[resolve("b:1", dict(environment))] == 1
    assert settings != resolve("b:1", {})
    assert "s3cret" not in repr(settings)


@pytest.mark.parametrize("options", [{"linger": 5}, {"on_delivery": print}])
def test_an_unknown_argument_is_refused_by_name(options: Any) -> None:
    with pytest.raises(TypeError, match=next(iter(options))):
        resolve("b:1", {}, options)


def test_an_unusable_timeout_is_refused_by_name() -> None:
    with pytest.raises(NotConfigured, match=r"message\.timeout\.ms must be a whole number"):
        resolve("b:1", {"HEADRACE_KAFKA_MESSAGE_TIMEOUT_MS": "soon"})
