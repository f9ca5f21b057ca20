"""The extension for Metaflow, as Metaflow loads it: which class `metaflow.integrations.ArgoEvent` is, and when."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from headrace_publisher.settings import is_configured

METAFLOWS = "metaflow.plugins.argo.argo_events"
OURS = "headrace_publisher.argo_event"
NOWHERE = "127.0.0.1:1"
ASK = """
import json, sys
from metaflow.integrations import ArgoEvent
from metaflow.extension_support import extension_info
print(json.dumps({
    "module": ArgoEvent.__module__,
    "loaded": sorted({"headrace_publisher", "confluent_kafka", "asyncio"} & set(sys.modules)),
    "extensions": sorted(extension_info()["installed"]),
}))
"""
FLOW = """
from metaflow import FlowSpec, step
from metaflow.integrations import ArgoEvent

class PublishingFlow(FlowSpec):
    @step
    def start(self):
        self.next(self.end)

    @step
    def end(self):
        pass

if __name__ == "__main__":
    PublishingFlow()
"""


class Machine:
    """A directory and an environment in which programs with Metaflow run; none of this process's settings is seen."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("HEADRACE_", "METAFLOW_", "ARGO_", "PYTHON"))}
        home = {"METAFLOW_HOME": str(directory / "metaflow-home"), "METAFLOW_USER": "tester"}
        self.environment = {**kept, **home}

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=self.directory,
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        )

    def ask(self, **environment: str) -> dict[str, Any]:
        """Tell which class the import gives; nothing may be said besides."""
        said = self.run("-c", ASK, **environment)
        assert said.stderr == ""
        answer: dict[str, Any] = json.loads(said.stdout)
        return answer


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def state_file(directory: Path, text: str) -> Path:
    directory.mkdir()
    (directory / "up.json").write_text(text)
    return directory


def test_without_kafka_the_class_is_metaflow_s_and_nothing_of_ours_is_imported(machine: Machine) -> None:
    answer = machine.ask()
    assert answer["module"] == METAFLOWS
    assert "headrace_publisher" not in answer["loaded"]
    # By its name, and not as some directory on the path, where any other extension would hide it.
    assert answer["extensions"] == ["headrace-publisher"]


def test_other_settings_alone_do_not_count(machine: Machine) -> None:
    answer = machine.ask(HEADRACE_TOPIC_PREFIX="h.", HEADRACE_BOOTSTRAP_SERVERS="", HEADRACE_STATE="elsewhere")
    assert answer["module"] == METAFLOWS


@pytest.mark.parametrize("variable", ["HEADRACE_BOOTSTRAP_SERVERS", "HEADRACE_KAFKA_BOOTSTRAP_SERVERS"])
def test_with_kafka_the_same_import_gives_ours(machine: Machine, variable: str) -> None:
    answer = machine.ask(**{variable: NOWHERE})
    assert answer["module"] == OURS
    assert "confluent_kafka" not in answer["loaded"], "whoever does not publish does not wait for Kafka's client"


def test_where_headrace_up_runs_it_is_ours_too(machine: Machine) -> None:
    state_file(machine.directory / ".headrace", json.dumps({"bootstrap_servers": NOWHERE}))
    assert machine.ask()["module"] == OURS
    elsewhere = state_file(machine.directory / "state", json.dumps({"bootstrap_servers": NOWHERE}))
    assert machine.ask(HEADRACE_STATE=str(elsewhere))["module"] == OURS


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ({"HEADRACE_STATE": "broken"}, "broken/up.json cannot be read"),
        ({"HEADRACE_BOOTSTRAP_SERVERS": NOWHERE, "HEADRACE_KAFKA_NO_SUCH_THING": "1"}, "no.such.thing"),
        ({"HEADRACE_BOOTSTRAP_SERVERS": NOWHERE, "HEADRACE_KAFKA_DELIVERY_TIMEOUT_MS": "soon"}, "message.timeout.ms"),
    ],
    ids=["state file", "unknown property", "no number"],
)
def test_a_broken_configuration_breaks_no_import_and_is_told_when_publishing(
    machine: Machine, broken: dict[str, str], reason: str
) -> None:
    state_file(machine.directory / "broken", "{")
    assert machine.ask(**broken)["module"] == OURS
    code = "from metaflow.integrations import ArgoEvent\nprint(ArgoEvent('data_updated').publish())"
    said = machine.run("-c", code, **broken)
    assert said.stdout == "None\n"
    assert "Event data_updated was not published: " in said.stderr and reason in said.stderr


def test_the_code_package_carries_the_extension_and_works_with_and_without_the_publisher(machine: Machine) -> None:
    (machine.directory / "publishing_flow.py").write_text(FLOW)
    machine.run("publishing_flow.py", "package", "save", "package.tgz")
    step = machine.directory / "container"
    with tarfile.open(machine.directory / "package.tgz") as package:
        package.extractall(step, filter="data")
    (found,) = step.rglob("metaflow_extensions/headrace/alias/__init__.py")
    code = found.parents[3]
    in_container = {"PYTHONPATH": f"{step}{os.pathsep}{code}", "HEADRACE_BOOTSTRAP_SERVERS": NOWHERE}
    assert machine.ask(**in_container)["module"] == OURS

    without = f"import sys\nsys.modules['headrace_publisher'] = None\n{ASK}"
    said = machine.run("-c", without, **in_container)
    assert json.loads(said.stdout)["module"] == METAFLOWS
    assert said.stderr.startswith("Headrace: headrace-publisher cannot be imported (")
    assert said.stderr.endswith("install headrace-publisher where this runs.\n") and said.stderr.count("\n") == 1
    # As Kubernetes sets it in every pod beside a Service of that name.
    elsewhere = {"PYTHONPATH": in_container["PYTHONPATH"], "HEADRACE_SERVICE_HOST": "10.0.0.1"}
    assert machine.run("-c", without, **elsewhere).stderr == ""


def test_whatever_names_a_kafka_counts_as_configured(tmp_path: Path) -> None:
    state = state_file(tmp_path / "state", "{")
    nowhere = {"HEADRACE_STATE": str(tmp_path / "none")}
    assert not is_configured(nowhere)
    assert is_configured({"HEADRACE_STATE": str(state)})
    for variable in "HEADRACE_BOOTSTRAP_SERVERS", "HEADRACE_KAFKA_METADATA_BROKER_LIST":
        assert is_configured({**nowhere, variable: NOWHERE})
        assert not is_configured({**nowhere, variable: ""})
