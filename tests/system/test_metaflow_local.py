"""Metaflow files as triggers of local runs: real Metaflow and Kafka, no Kubernetes, events by Metaflow's own import."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.support.engine import COMMAND_TIMEOUT_S, Engine, Row, here
from tests.support.kafka import KafkaServer

FLOW = """
from datetime import datetime, timedelta
from metaflow import FlowSpec, Parameter, step, trigger, trigger_on_finish, project
{decorators}
class {name}(FlowSpec):
    latest = Parameter("latest", default="2023-05-01")
    window = Parameter("window", default=3)

    @step
    def start(self):
        start_date = datetime.fromisoformat(self.latest) - timedelta(days=self.window)
        print("processing fresh data!")
        print("loading data since %s" % start_date)
        self.next(self.end)

    @step
    def end(self):
        pass

if __name__ == "__main__":
    {name}()
"""
PUBLISHING_FLOW = """
from metaflow import FlowSpec, step
from metaflow.integrations import ArgoEvent

class PublishingFlow(FlowSpec):
    @step
    def start(self):
        print("published:", ArgoEvent(name="{event}", payload={{"latest": "2024-02-29"}}).safe_publish())
        self.next(self.end)

    @step
    def end(self):
        pass

if __name__ == "__main__":
    PublishingFlow()
"""


@pytest.fixture(scope="module")
def engine(kafka: KafkaServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """One process of each role, ready, for the whole module, where no Kubernetes is configured."""
    directory = tmp_path_factory.mktemp("local")
    running = Engine(
        {
            "HEADRACE_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
            "HEADRACE_TOPIC_PREFIX": f"h{uuid.uuid4().hex[:8]}.",
            "HOME": str(directory),
            "METAFLOW_HOME": str(directory / "metaflow-home"),
            "METAFLOW_DATASTORE_SYSROOT_LOCAL": str(directory / "datastore"),
            "METAFLOW_USER": "tester",
        },
        directory / "engine",
    )
    try:
        running.start_and_wait()
        yield running
        running.stop()
    finally:
        running.abandon()


class Author:
    """Somebody who writes flows in a directory, and whose events and flows have names that no other test has."""

    def __init__(self, engine: Engine, directory: Path) -> None:
        self.engine = engine
        self.directory = directory
        self.suffix = uuid.uuid4().hex[:8]

    def event(self, word: str) -> str:
        return f"{word}_{self.suffix}"

    def flow(self, name: str, decorators: str, file: str = "flow.py") -> Path:
        """Write a flow, whose trigger's name is returned by `trigger`."""
        path = self.directory / file
        path.write_text(FLOW.format(name=f"{name}{self.suffix}", decorators=decorators))
        return path

    def trigger(self, flow: str) -> str:
        return f"default/{flow.lower()}{self.suffix}"

    def metaflow(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=self.directory,
            env={**self.engine.environment, **environment},
            capture_output=True,
            text=True,
            check=True,
            timeout=COMMAND_TIMEOUT_S,
        )

    def publish(self, event: str, payload: dict[str, Any] | None = None) -> str:
        """Publish as the users of Metaflow do, and return the event's id."""
        code = (
            "import json, sys\nfrom metaflow.integrations import ArgoEvent\n"
            "print(ArgoEvent(name=sys.argv[1]).publish(payload=json.loads(sys.argv[2]), ignore_errors=False))"
        )
        return self.metaflow("-c", code, event, json.dumps(payload or {})).stdout.strip()

    def succeeded(self, trigger: str, count: int = 1) -> list[Row]:
        """Return a trigger's runs, newest last, once so many of them have succeeded."""

        def rows() -> list[Row]:
            return self.engine.here("runs", "--trigger", trigger, "--json").expect(0).rows

        def are_so_many() -> bool:
            states = [row["state"] for row in rows()]
            assert not {"failed", "unknown"} & set(states), [log_of(row) for row in rows()]
            return states.count("succeeded") >= count

        self.engine.wait_until(are_so_many, f"{count} runs of {trigger} that succeeded")
        return rows()


def log_of(run: Row) -> str:
    return Path(run["run"]).read_text()


@pytest.fixture
def author(engine: Engine, tmp_path: Path) -> Author:
    return Author(engine, tmp_path)


def test_a_flow_that_waits_for_one_event_runs_once_it_is_published(author: Author) -> None:
    event = author.event("data_updated")
    flow = author.flow("FreshDataFlow", f"@trigger(event={event!r})", "freshdata.py")
    said = author.engine.cli("deploy", str(flow)).expect(0)
    trigger = author.trigger("FreshDataFlow")
    assert said.stdout.splitlines() == [
        f"{trigger} deployed (generation 1)",
        "What will trigger execution:",
        f"    {trigger} starts flow {flow} when the event {event} is published.",
    ]
    event_id = author.publish(event)
    (run,) = author.succeeded(trigger)
    assert [used["id"] for used in run["events"]] == [event_id]
    assert run["parameters"] == {}
    assert "processing fresh data!" in log_of(run)


def test_payload_fields_become_the_parameters_of_their_names(author: Author) -> None:
    event = author.event("data_updated")
    flow = author.flow("ModelRefreshFlow", f"@trigger(event={event!r})")
    author.engine.here("deploy", str(flow)).expect(0)
    latest = datetime(2026, 3, 1, 12, tzinfo=UTC).replace(tzinfo=None).isoformat()
    author.publish(event, {"latest": latest, "region": "eu"})
    (run,) = author.succeeded(author.trigger("ModelRefreshFlow"))
    assert run["parameters"] == {"latest": latest}
    assert "loading data since 2026-02-26 12:00:00" in log_of(run)


def test_mappings_on_two_events_switch_the_default_off_and_a_changed_flow_maps_anew(author: Author) -> None:
    one, another = author.event("one_event"), author.event("another_event")
    events = [
        {"name": one, "parameters": {"window": "how_many_days"}},
        {"name": another, "parameters": {"latest": "timestamp"}},
    ]
    trigger = author.trigger("ModelRefreshFlow")
    flow = author.flow("ModelRefreshFlow", f"@trigger(events={events!r})")
    said = author.engine.here("deploy", str(flow)).expect(0)
    assert f"starts flow {flow} when {one} and {another} are published within 1h of each other." in said.stdout
    author.publish(another, {"timestamp": "2026-03-10", "window": 1})
    author.publish(one, {"how_many_days": 9, "latest": "1999-01-01", "window": 2})
    (run,) = author.succeeded(trigger)
    assert run["parameters"] == {"window": "9", "latest": "2026-03-10"}
    assert "loading data since 2026-03-01 00:00:00" in log_of(run)

    author.flow("ModelRefreshFlow", f"@trigger(event={{'name': {one!r}, 'parameters': [('latest', 'day'), 'window']}})")
    assert f"{trigger} deployed (generation 2)" in author.engine.here("deploy", str(flow)).expect(0).stdout
    author.publish(one, {"day": "2026-03-05", "window": 4, "latest": "1999-01-01"})
    runs = author.succeeded(trigger, 2)
    assert [row["parameters"] for row in runs if row["firing"] != run["firing"]] == [
        {"latest": "2026-03-05", "window": "4"}
    ]


def test_names_and_mappings_by_function_and_a_trigger_file_in_one_deployment(author: Author) -> None:
    event = author.event("data_updated")
    flow = author.flow(
        "ByFunctionFlow",
        f"def wanted(context):\n    return {{'name': {event!r}, 'parameters': {{'WINDOW': 'days'}}}}\n"
        "@trigger(event=wanted)",
        "by_function.py",
    )
    author.flow("ByFileFlow", "", "by_file.py")
    author.directory.joinpath("by_file.yaml").write_text(
        "apiVersion: headrace.dev/v1\nkind: Trigger\n"
        f"metadata: {{name: by-file-{author.suffix}}}\n"
        f"spec: {{events: [{event}], run: {{flow: by_file.py}}}}\n"
    )
    said = author.engine.here("deploy", str(flow), str(author.directory / "by_file.yaml"), "--json").expect(0)
    assert [row["name"] for row in said.rows] == [author.trigger("ByFunctionFlow"), f"default/by-file-{author.suffix}"]
    assert said.rows[0]["source"] == f"{flow}:6"
    author.publish(event, {"days": 10, "window": 2})
    (by_function,) = author.succeeded(author.trigger("ByFunctionFlow"))
    (by_file,) = author.succeeded(f"default/by-file-{author.suffix}")
    assert (by_function["parameters"], by_file["parameters"]) == ({"window": "10"}, {"window": "2"})


def test_trigger_on_finish_waits_for_the_end_events_of_deployed_flows(author: Author) -> None:
    upstream = f"Upstream{author.suffix}"
    flow = author.flow("AfterFlow", f"@trigger_on_finish(flow='{upstream}')")
    said = author.engine.here("deploy", str(flow)).expect(0)
    note = f"Flows deployed on Argo Workflows publish metaflow.{upstream}.end as they succeed; local runs publish no"
    assert note in said.stdout
    again = author.engine.here("deploy", str(flow), "--json").expect(0)
    assert [row["generation"] for row in again.rows] == [2] and note in again.stderr
    author.engine.here("publish", f"metaflow.{upstream}.end", "-p", "window=1").expect(0)
    (run,) = author.succeeded(author.trigger("AfterFlow"))
    assert run["parameters"] == {}, "Metaflow passes nothing of such an event as parameters"


def test_trigger_on_finish_within_a_project(author: Author) -> None:
    decorators = "@project(name='forecast')\n@trigger_on_finish(flow='UpstreamFlow')"
    flow = author.flow("AfterFlow", decorators)
    said = author.engine.here("deploy", str(flow)).expect(0)
    assert "when the event metaflow.forecast.user.tester.UpstreamFlow.end is published" in said.stdout


def test_safe_publish_in_a_step_publishes_on_argo_workflows_only(author: Author) -> None:
    event = author.event("inside")
    flow = author.flow("WaitingFlow", f"@trigger(event={event!r})")
    author.engine.here("deploy", str(flow)).expect(0)
    (author.directory / "publishing.py").write_text(PUBLISHING_FLOW.format(event=event))
    local = author.metaflow("publishing.py", "run")
    assert "published: None" in local.stdout
    assert f"Event {event} was not published, as this is no deployed Argo workflow" in local.stdout + local.stderr

    deployed = author.metaflow("publishing.py", "run", ARGO_WORKFLOW_TEMPLATE="publishingflow")
    (run,) = author.succeeded(author.trigger("WaitingFlow"))
    assert f"published: {run['events'][0]['id']}" in deployed.stdout
    assert run["parameters"] == {"latest": "2024-02-29"}
    assert len(author.engine.here("events", event, "--json").expect(0).rows) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("print('no flow')\n", "starts no flow: it has to end in `if __name__ == '__main__':`"),
        ("\n\n1 / 0\n", "fails: ZeroDivisionError: division by zero (line 3)"),
        ("def broken(:\n", "fails: SyntaxError: invalid syntax (flow.py, line 1)"),
        (FLOW.format(name="F", decorators=""), "flow.py:5: the flow F has neither @trigger nor @trigger_on_finish"),
        (
            FLOW.format(name="F", decorators="@trigger(event='e', options={'reset_at': '00:00'})"),
            "flow.py:4: the flow F: @trigger has the options reset_at, which local runs do not honour",
        ),
        (
            FLOW.format(name="F", decorators="@trigger(event={'name': 'e', 'parameters': {'rows': 'n'}})"),
            "flow.py:4: the flow F: @trigger maps the field 'n' of e to 'rows', which is none of its parameters",
        ),
    ],
    ids=["no flow", "fails", "syntax", "no trigger", "options", "unknown parameter"],
)
def test_what_is_no_usable_flow_is_refused_with_one_sentence(author: Author, text: str, message: str) -> None:
    file = author.directory / "flow.py"
    file.write_text(text)
    sentence = author.engine.here("deploy", str(file)).refusal()
    assert str(file) in sentence and message in sentence


def test_with_kubernetes_a_flow_is_deployed_for_local_runs_only_if_asked(author: Author) -> None:
    flow = author.flow("FreshDataFlow", f"@trigger(event={author.event('data_updated')!r})")
    kubeconfig = author.directory / "kubeconfig"
    kubeconfig.write_text("current-context: c\ncontexts: [{name: c, context: {namespace: ml}}]\n")
    with_kubernetes = {**author.engine.environment, "KUBECONFIG": str(kubeconfig)}
    # Then it is the deployment that is asked for, and here there is no cluster to ask.
    assert "kubeconfig" in here(with_kubernetes, "deploy", str(flow)).refusal()
    said = here(with_kubernetes, "deploy", "--local", str(flow)).expect(0)
    assert f"ml/{author.trigger('FreshDataFlow').partition('/')[2]} deployed (generation 1)" in said.stdout


def test_local_is_for_metaflow_files() -> None:
    refused = here({}, "deploy", "--local", "trigger.yaml").expect(2)
    assert "--local" in refused.stderr and "Metaflow files" in refused.stderr
