"""README.md is true: a reader who follows it, on a real Kafka, engine and API server, sees what it says."""

from __future__ import annotations

import base64
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml
from confluent_kafka import Consumer, Producer, TopicPartition

from headrace.edges.faust.credentials import faust_settings
from headrace.edges.kafka.jars import resolve_class_path
from headrace.edges.loopback_port import free_port
from headrace.model.firing import Firing
from headrace.model.times import instant_text
from headrace.model.topics import TopicNames
from headrace.roles.start import ROLES
from headrace.settings import load
from tests.support.kafka import DEADLINE_S, wait_until
from tests.support.kube import KubeServer, apply_yaml, list_workflows, request_json, token_for
from tests.support.reader import Check, Reader, environment_without_settings
from tests.support.readme import Block, blocks, quoted, table, timeline, value_matches

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = (README, ROOT / "publisher" / "README.md", ROOT / "engine" / "README.md")
WRITTEN_ADDRESS = "127.0.0.1:9092"
WRITTEN_INGRESS = "127.0.0.1:12000"
MINUTE_MS = 60_000
MATCHES = ("latest", "each")
TIMELINE = "timeline"
WINDOW_MINUTES = 5
KUBECTL_APPLY = re.compile(r"kubectl apply -f (\S+)")
CLIENT_JARS = ("kafka-clients-", "slf4j-api-", "log4j-")


def create_namespaces(kube: KubeServer, *names: str) -> None:
    """Create namespaces, or find them there, as another test may have made them."""
    for name in names:
        apply_yaml(kube, yaml.safe_dump({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}))


def java_class_path() -> str:
    return os.pathsep.join(str(jar) for jar in resolve_class_path(print) if jar.name.startswith(CLIENT_JARS))


def require(command: list[str], word: str, advice: str) -> None:
    """Fail with what to install, unless a command exists and prints the word."""
    found = shutil.which(command[0])
    said = subprocess.run(command, capture_output=True, text=True, check=False).stdout if found else ""
    if word not in said:
        pytest.fail(f"README.md cannot be followed without {command[0]}: {advice}", pytrace=False)


@pytest.fixture
def kubeconfig(kube: KubeServer) -> Path:
    """The ServiceAccount of deploy/rbac.yaml, with no more rights than the README's table has."""
    create_namespaces(kube, "headrace", "ml")
    account, role, binding = yaml.safe_load_all((ROOT / "deploy" / "rbac.yaml").read_text())
    granted = {rule["resources"][0]: rule["verbs"] for rule in role["rules"]}
    needed = {quoted(row[0])[0]: quoted(row[1]) for row in table(README, "resource").rows}
    assert needed.keys() == granted.keys()
    for rule in role["rules"]:
        verbs = needed[rule["resources"][0]]
        assert set(verbs) <= set(rule["verbs"]), "the README asks for more than deploy/rbac.yaml grants"
        rule["verbs"] = verbs
    apply_yaml(kube, yaml.safe_dump_all([account, role, binding]))
    (template,) = (block.text for block in blocks(README) if "template.yaml" in block.attributes.get("title", ""))
    apply_yaml(kube, template)
    return kube.kubeconfig_for(token_for(kube, "headrace", "headrace"), namespace="ml")


class Checks:
    """What checks the blocks that show something instead of telling what to do."""

    def __init__(self, kube: KubeServer, servers: str) -> None:
        self._kube = kube
        self._client = {"bootstrap.servers": servers}

    def by_word(self) -> dict[str, Check]:
        return {
            "data flow": self.data_flow,
            "workflow": self.workflow,
            "timeline": self.timeline,
            "client settings": self.client_settings,
        }

    def data_flow(self, _: Reader, block: Block) -> None:
        names = TopicNames("headrace.")
        topics = [names.triggers, names.matches, names.joins, names.firings, names.runs, names.dead_letters]
        missing = [word for word in (*topics, names.progress, *ROLES) if word not in block.text]
        assert not missing, f"{block} does not show {missing}"

    def workflow(self, _: Reader, block: Block) -> None:
        wanted = yaml.safe_load(block.text)
        found = list_workflows(self._kube, wanted["metadata"]["namespace"])
        assert len(found) == 1, f"{block}: there are {len(found)} Workflows"
        assert value_matches(wanted, found[0]), f"{block} shows another Workflow than {found[0]}"
        assert len(found[0]["spec"]) == len(wanted["spec"]), f"{block} does not show all of {found[0]['spec']}"

    def client_settings(self, _: Reader, block: Block) -> None:
        """Every client takes the settings; only the authority's certificate has to be one that is here."""
        authority = subprocess.check_output([sys.executable, "-m", "certifi"], text=True).strip()
        text = block.text.replace("/etc/headrace/ca.pem", authority)
        printed = subprocess.check_output(["bash", "-euc", f"{text}\nenv -0"], env={"PATH": os.environ["PATH"]})
        pairs = (entry.partition("=") for entry in printed.decode().split("\0") if entry)
        properties = load({name: value for name, _, value in pairs}).client()
        assert len(properties) == text.count("export "), f"{block}: not each variable became a property"
        Producer({**properties, "log_level": 0}).flush(0)
        Consumer({**properties, "group.id": "readme", "log_level": 0}).close()
        credentials = faust_settings(properties)["broker_credentials"]
        assert credentials is not None, f"{block}: the settings do not reach Faust"

    def timeline(self, reader: Reader, block: Block) -> None:
        """Publish what the timeline shows, and compare what `latest` and `each` take."""
        marks = timeline(block)
        events = sorted({mark.row for mark in marks} - set(MATCHES))
        triggers = [_paused_trigger(f"timeline-{match}", match, events) for match in MATCHES]
        reader.say(f"headrace deploy - <<'END'\n{yaml.safe_dump_all(triggers)}END")
        # Far enough back for its last minute not to lie in the future, and no further than the window.
        base_ms = time.time_ns() // 1_000_000 - WINDOW_MINUTES * MINUTE_MS
        producer = Producer(self._client)
        for mark in sorted(marks, key=lambda mark: mark.minute):
            if mark.row in events:
                at = instant_text(base_ms + mark.minute * MINUTE_MS)
                # One partition of one topic, so that they come in this order.
                producer.produce(TIMELINE, b"{}", partition=0, headers={"ce_id": mark.text, "ce_time": at})
        assert producer.flush(DEADLINE_S) == 0
        self._shown = {match: sorted(m.text.split("+") for m in marks if m.row == match) for match in MATCHES}
        wait_until(self.fired_as_shown, f"what {block} shows")

    def fired_as_shown(self) -> bool:
        """Whether the timeline's triggers have fired what it shows, and nothing else."""
        found: dict[str, list[list[str]]] = {match: [] for match in MATCHES}
        for value in self._values(TopicNames("headrace.").firings):
            firing = Firing.decode(value)
            match = firing.definition.trigger.removeprefix("ml/timeline-")
            if match in found:
                found[match].append(sorted(event.id for event in firing.events))
        return {match: sorted(sets) for match, sets in found.items()} == self._shown

    def _values(self, topic: str) -> list[bytes]:
        properties = {**self._client, "group.id": "readme", "enable.auto.commit": "false"}
        with closing(Consumer(properties)) as consumer:
            partitions = consumer.list_topics(topic, DEADLINE_S).topics[topic].partitions
            starts = [TopicPartition(topic, partition, 0) for partition in partitions]
            count = sum(high - low for low, high in (consumer.get_watermark_offsets(at, DEADLINE_S) for at in starts))
            consumer.assign(starts)
            values = [message.value() or b"" for message in consumer.consume(count, DEADLINE_S)] if count else []
            assert len(values) == count, f"{topic} cannot be read to its end"
            return values


def _paused_trigger(name: str, match: str, events: list[str]) -> dict[str, Any]:
    """A trigger whose events are told apart by the first letters of their ids. It decides, and starts nothing."""
    return {
        "apiVersion": "headrace.dev/v1",
        "kind": "Trigger",
        "metadata": {"name": name, "namespace": "ml"},
        "spec": {
            "events": [{"name": TIMELINE, "filter": f"id.startsWith('{event}')"} for event in events],
            "window": f"{WINDOW_MINUTES}m",
            "match": match,
            "run": {"workflowTemplate": "model-refresh"},
            "paused": True,
        },
    }


@pytest.fixture
def reader(kube: KubeServer, kubeconfig: Path, tmp_path: Path) -> Iterator[tuple[Reader, Checks]]:
    """A reader in an empty directory beside a checkout's examples and virtual environment."""
    require(["kcat", "-V"], "kcat", "install it (Debian's package is kcat)")
    require(["curl", "--version"], "curl", "install it (7.82 or newer)")
    require(["java", "--list-modules"], "jdk.compiler", "install a JDK of version 17 or newer (default-jdk-headless)")
    for name in ("examples", ".venv"):
        (tmp_path / name).symlink_to(Path(sys.prefix) if name == ".venv" else ROOT / name)
    servers, ingress = (f"127.0.0.1:{free_port()}" for _ in range(2))
    environment = {
        **environment_without_settings(),
        "PATH": f"{sys.prefix}/bin:{os.environ['PATH']}",
        "KUBECONFIG": str(kubeconfig),
        "KAFKA_CLIENTS": java_class_path(),
        "HEADRACE_INGRESS_ADDRESS": ingress,
    }
    checks = Checks(kube, servers)
    replacements = {
        WRITTEN_ADDRESS: servers,
        WRITTEN_INGRESS: ingress,
        # The reader's Kafka has a port of its own, since the usual one may be taken where tests run.
        "exec headrace up ": f"exec headrace up --port {servers.partition(':')[2]} ",
    }
    following = Reader(tmp_path, environment, replacements, checks.by_word())
    try:
        yield following, checks
        following.stop()
    finally:
        following.abandon()


def test_a_reader_who_follows_the_pages_sees_what_they_say(reader: tuple[Reader, Checks]) -> None:
    following, checks = reader
    for page in PAGES:
        following.follow(page)
    assert checks.fired_as_shown(), "what the timeline does not show has fired later"


def test_what_the_pages_apply_to_a_cluster_is_taken(kube: KubeServer) -> None:
    create_namespaces(kube, "headrace", "ml")
    files = KUBECTL_APPLY.findall("".join(block.text for block in blocks(README) if "not-run" in block.attributes))
    deployed = [name for name in files if name.startswith("deploy/")]
    assert sorted(deployed) == [f"deploy/{name}.yaml" for name in ("rbac", "roles", "sensor-crd", "settings", "sync")]
    for name in [*deployed, "deploy/rbac-cluster-templates.yaml"]:
        apply_yaml(kube, ROOT / name)

    settings = request_json(kube, "GET", "/api/v1/namespaces/headrace/configmaps/headrace")["data"]
    secret = request_json(kube, "GET", "/api/v1/namespaces/headrace/secrets/headrace-kafka")["data"]
    for role in ROLES:
        path = f"/apis/apps/v1/namespaces/headrace/deployments/headrace-{role}"
        pod = request_json(kube, "GET", path)["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        assert container["args"] == ["run", role]
        assert (container["livenessProbe"]["httpGet"]["path"], container["readinessProbe"]["httpGet"]["path"]) == (
            "/livez",
            "/readyz",
        )
        assert container["resources"]["requests"].keys() == {"cpu", "memory"}
        sources = [next(iter(source.values()))["name"] for source in container["envFrom"]]
        assert sources == ["headrace", "headrace-kafka"]
        own = {variable["name"]: variable["value"] for variable in container["env"] if "value" in variable}
        environment = {**settings, **{name: base64.b64decode(value).decode() for name, value in secret.items()}, **own}
        loaded = load(environment)
        assert loaded.http_address == "0.0.0.0:8080" and container["ports"][0]["containerPort"] == 8080
        assert loaded.namespaces == ("ml",)
        assert loaded.client()["sasl.password"] == "change-me"
        assert str(loaded.state) in {mount["mountPath"] for mount in container["volumeMounts"]}
        assert not pod["enableServiceLinks"], "Services' variables could be taken for settings"
        # Only the roles that speak to Kubernetes get a token, each that of its own account.
        account = {"submit": "headrace", "sync": "headrace-sync"}.get(role)
        assert pod.get("serviceAccountName") == account
        assert pod.get("automountServiceAccountToken", True) == (account is not None)
