"""docker-compose.yml and the Dockerfile, as far as they can be checked without Docker: names, settings, files."""

from __future__ import annotations

import fnmatch
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from headrace.edges.kafka.jars import KAFKA_VERSION
from headrace.edges.kafka.server_properties import ListenerSecurity, server_properties
from headrace.roles.start import ROLES as ALL_ROLES
from headrace.settings import load

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "engine" / "Dockerfile").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
KAFKA: dict[str, Any] = COMPOSE["services"]["kafka"]
LISTENER = re.compile(r"(\w+)://([^:,]*):(\d+)")


def stages() -> dict[str, str]:
    """The Dockerfile's stages: what each is made from."""
    return {name: base for base, name in re.findall(r"^FROM (\S+) AS (\S+)$", DOCKERFILE, re.MULTILINE)}


# The containers of one machine have no Kubernetes whose Sensors could be read.
ROLES = tuple(role for role in ALL_ROLES if role != "sync")


def image_environment() -> dict[str, str]:
    """The settings that the image itself brings."""
    return dict(re.findall(r"\b(HEADRACE_[A-Z_]+)=(\S+)", DOCKERFILE))


def test_there_is_kafka_and_one_service_for_each_role() -> None:
    assert COMPOSE["services"].keys() == {"kafka", *ROLES}
    for role in ROLES:
        service = COMPOSE["services"][role]
        assert service["command"] == ["run", role]
        assert service["build"]["target"] in stages()
        assert (ROOT / service["build"]["context"] / service["build"]["dockerfile"]).is_file()
        assert service["depends_on"] == {"kafka": {"condition": "service_healthy"}}


@pytest.mark.parametrize("role", ROLES)
def test_a_role_finds_kafka_and_serves_its_readiness_where_it_is_asked(role: str) -> None:
    service = COMPOSE["services"][role]
    assert all(isinstance(value, str) for value in service["environment"].values()), "a setting is a text"
    settings = load({**image_environment(), **service["environment"]})
    (client,) = (
        found for found in LISTENER.findall(KAFKA["environment"]["KAFKA_ADVERTISED_LISTENERS"]) if found[1] == "kafka"
    )
    assert settings.bootstrap_servers == f"{client[1]}:{client[2]}"
    assert settings.replication == 1
    host, _, port = settings.http_address.partition(":")
    assert host == "0.0.0.0"
    assert f"http://127.0.0.1:{port}/readyz" in service["healthcheck"]["test"][-1]


def test_flows_can_be_named_by_the_paths_that_the_submitter_has() -> None:
    (examples, kubeconfig) = (volume.rsplit(":", 2) for volume in COMPOSE["services"]["submit"]["volumes"])
    assert examples[1:] == ["/examples", "ro"]
    assert (ROOT / examples[0] / "model_refresh.yaml").is_file()
    assert COMPOSE["services"]["submit"]["environment"]["KUBECONFIG"] == kubeconfig[1]
    # Only the image with Metaflow can run a flow.
    assert COMPOSE["services"]["submit"]["build"]["target"] == "flows"


def test_events_by_http_reach_the_ingress_from_this_machine_alone() -> None:
    service = COMPOSE["services"]["ingress"]
    host, _, port = load({**image_environment(), **service["environment"]}).ingress_address.partition(":")
    assert host == "0.0.0.0"
    assert service["ports"] == [f"127.0.0.1:{port}:{port}"]


def test_kafka_is_set_as_the_embedded_one_is_where_both_are_alone() -> None:
    assert KAFKA["image"] == f"apache/kafka:{KAFKA_VERSION}"
    environment = KAFKA["environment"]
    assert all(isinstance(value, str) for value in environment.values())
    properties = {name.removeprefix("KAFKA_").lower().replace("_", "."): value for name, value in environment.items()}
    embedded = server_properties(
        data=Path("/data"), port=1, controller_port=2, security=ListenerSecurity(), extra={"log.dirs": "/data"}
    )
    assert properties.keys() <= embedded.keys(), "a property that the embedded Kafka has not is not known to work"
    alone = {name for name in embedded if "replication.factor" in name or "min.isr" in name or "min.insync" in name}
    assert {name: properties[name] for name in alone} == dict.fromkeys(alone, "1")
    listening = {name for name, _, _ in LISTENER.findall(properties["listeners"])}
    mapped = dict(pair.split(":") for pair in properties["listener.security.protocol.map"].split(","))
    assert listening == mapped.keys()
    assert {properties["inter.broker.listener.name"], properties["controller.listener.names"]} <= listening
    # Its data outlives the container, and nobody outside this machine reaches it.
    assert KAFKA["volumes"] == [f"kafka:{properties['log.dirs']}"] and "kafka" in COMPOSE["volumes"]
    assert all(port.startswith("127.0.0.1:") for port in KAFKA["ports"])


def test_the_image_is_built_from_files_that_are_there_and_sent() -> None:
    ignored = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] not in "#!*"]
    sent = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    sources = [
        word for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE) for word in line.split()[:-1]
    ]
    assert "uv.lock" in sources
    for source in sources:
        assert (ROOT / source).exists(), f"the Dockerfile copies {source}, which is not there"
        assert source.partition("/")[0] in sent, f"the Dockerfile copies {source}, which .dockerignore keeps back"
        assert not any(fnmatch.fnmatch(source, pattern) for pattern in ignored)


def test_the_image_runs_as_nobody_in_particular_and_without_what_built_it() -> None:
    *_, last = stages()
    assert last == "runtime", "what is built by default is the last stage"
    final = DOCKERFILE[DOCKERFILE.index(" AS base") :]
    assert re.search(r"^USER (?!0)\d+$", final, re.MULTILINE)
    assert json.loads(re.findall(r"^ENTRYPOINT (.+)$", final, re.MULTILINE)[0]) == ["headrace"]
    assert " uv" not in final and "pip" not in final
    copied = re.findall(r"^COPY --from=(\S+) (\S+) (\S+)$", final, re.MULTILINE)
    assert {stage for stage, _, _ in copied} <= stages().keys()
    assert all(source == target == "/app/.venv" for _, source, target in copied)
    sync = re.findall(r'SYNC="(.+)"', DOCKERFILE)[0].split()
    assert {"--frozen", "--no-dev", "--no-editable"} <= set(sync)
