"""Settings: flag, environment, state file, default, in this order."""

from __future__ import annotations

from pathlib import Path

import pytest

from headrace.model.errors import SettingsError
from headrace.settings import load


def test_defaults(tmp_path: Path) -> None:
    settings = load({"HEADRACE_STATE": str(tmp_path)})
    assert settings.bootstrap_servers is None
    assert (settings.window_ms, settings.lateness_ms) == (3_600_000, 60_000)
    assert (settings.replication, settings.partitions) == (3, 8)
    assert settings.topics.matches == "headrace.matches"
    assert settings.namespaces == ()


def test_the_state_file_tells_other_commands_where_kafka_is(tmp_path: Path) -> None:
    (tmp_path / "up.json").write_text('{"bootstrap_servers":"127.0.0.1:1234","topic_prefix":"x."}')
    settings = load({"HEADRACE_STATE": str(tmp_path)})
    assert settings.bootstrap_servers == "127.0.0.1:1234"
    assert settings.replication == 1, "the embedded Kafka is one broker"
    assert settings.topics.group("join") == "x.join"


def test_the_environment_comes_before_the_state_file(tmp_path: Path) -> None:
    (tmp_path / "up.json").write_text('{"bootstrap_servers":"127.0.0.1:1234"}')
    environment = {"HEADRACE_STATE": str(tmp_path), "HEADRACE_BOOTSTRAP_SERVERS": "kafka:9092"}
    settings = load(environment)
    assert (settings.bootstrap_servers, settings.replication) == ("kafka:9092", 3)
    assert load(environment, bootstrap_servers="flag:1").bootstrap_servers == "flag:1"


def test_kafka_properties_reach_every_client(tmp_path: Path) -> None:
    settings = load(
        {
            "HEADRACE_STATE": str(tmp_path),
            "HEADRACE_BOOTSTRAP_SERVERS": "kafka:9092",
            "HEADRACE_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
            "HEADRACE_KAFKA_SASL_USERNAME": "u",
        }
    )
    client = settings.client(group_id="g")
    assert client == {
        "bootstrap.servers": "kafka:9092",
        "security.protocol": "SASL_SSL",
        "sasl.username": "u",
        "group.id": "g",
    }


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HEADRACE_WINDOW", "soon"),
        ("HEADRACE_LATENESS", "5"),
        ("HEADRACE_PARTITIONS", "0"),
        ("HEADRACE_REPLICATION", "x"),
    ],
)
def test_a_value_that_cannot_work_names_its_variable(tmp_path: Path, name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name):
        load({"HEADRACE_STATE": str(tmp_path), name: value})


def test_namespaces(tmp_path: Path) -> None:
    assert load({"HEADRACE_STATE": str(tmp_path), "HEADRACE_NAMESPACES": "ml, data"}).namespaces == ("ml", "data")
    assert load({"HEADRACE_STATE": str(tmp_path), "HEADRACE_NAMESPACES": "*"}).namespaces is None


def test_secrets_of_the_ingress_are_never_shown_and_lose_a_lines_end(tmp_path: Path) -> None:
    plain = load({"HEADRACE_STATE": str(tmp_path), "HEADRACE_INGRESS_TOKEN": "", "HEADRACE_INGRESS_HMAC_SECRET": " "})
    assert (plain.ingress_token, plain.ingress_hmac_secret) == (None, None)
    environment = {"HEADRACE_INGRESS_TOKEN": "t0ken\n", "HEADRACE_INGRESS_HMAC_SECRET": "s3cret"}
    settings = load({"HEADRACE_STATE": str(tmp_path), **environment})
    assert (settings.ingress_token, settings.ingress_hmac_secret) == ("t0ken", "s3cret")
    assert "t0ken" not in repr(settings) and "s3cret" not in repr(settings)


def test_a_damaged_state_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "up.json").write_text("{")
    with pytest.raises(SettingsError, match=r"up\.json"):
        load({"HEADRACE_STATE": str(tmp_path)})
