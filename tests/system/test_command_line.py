"""The command line: what each command prints for people and programs, exit codes, and a sentence for each wrong use."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from headrace.edges.loopback_port import LOOPBACK, free_port
from tests.support.engine import COMMAND, COMMAND_TIMEOUT_S, Engine, Said, here
from tests.support.tenant import Bare, Tenant

SCHEMAS = Path(__file__).parents[2] / "schemas"
Command = tuple[str, ...]


def said(engine: Engine, commands: list[Command], **environment: str) -> list[Said]:
    """Run commands as processes, all at once since they wait rather than work; what they said, in their order."""
    with ThreadPoolExecutor(max_workers=len(commands)) as threads:
        return list(threads.map(lambda command: engine.cli(*command, **environment), commands))


@contextmanager
def following(engine: Engine, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run a command that goes on until Ctrl-C; its output is read line by line."""
    process = subprocess.Popen(
        [*COMMAND, *arguments],
        env=engine.environment,
        cwd=engine.directory,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_what_each_command_tells_people_and_programs(tenant: Tenant, tmp_path: Path) -> None:
    engine = tenant.engine
    tenant.template("flow", {"rows": None, "region": None, "text": None})
    event = tenant.event("data_updated")
    file = tmp_path / "trigger.yaml"
    file.write_text(tenant.trigger("refresh", [{"name": event, "filter": "event.rows > 0"}], "flow"))
    (deployed,) = engine.cli("deploy", str(file), "--json").expect(0).rows
    assert (deployed["name"], deployed["generation"]) == (tenant.full("refresh"), 1)
    assert deployed["source"] == f"{file}:1"

    payload = tmp_path / "payload.json"
    payload.write_text('{"rows": 3, "text": "from a file"}')
    ids = [
        engine.cli(*command, stdin=stdin).expect(0).stdout.strip()
        for command, stdin in (
            (("publish", event, "-p", "rows=1", "-p", "region=eu", "--key", "k", "--id", "first"), None),
            (("publish", event, "--payload", "-", "-p", "text=overridden"), '{"rows": 2, "text": "standard input"}'),
            (("publish", event, "--payload", f"@{payload}"), None),
            (("publish", event, "--payload", '{"rows": 0}'), None),
        )
    ]
    assert ids[0] == "first" and len(set(ids)) == 4
    tenant.produce([Bare(event, b"no json")])
    tenant.settle(event)

    events = engine.here("events", event, "--json").expect(0).rows
    assert [row.get("id") for row in events] == [*ids, None]
    assert events[0]["payload"] == {"rows": 1, "region": "eu"}
    assert events[1]["payload"] == {"rows": 2, "text": "overridden"}
    assert events[4]["unreadable"] == "not-json"
    assert len(engine.here("events", event, "--last", "1", "--json").expect(0).rows) == 1

    runs = tenant.runs("refresh")
    assert [row["state"] for row in runs] == ["started"] * 3
    assert [row["parameters"]["rows"] for row in sorted(runs, key=lambda row: ids.index(row["events"][0]["id"]))] == [
        "1", "2", "3",
    ]  # fmt: skip
    (letter,) = tenant.dead_letters()
    people: dict[Command, tuple[str, ...]] = {
        ("triggers",): (tenant.full("refresh"), event, "workflowTemplate:flow", "active"),
        ("events", event): ("first", '{"rows":1,"region":"eu"}', "unreadable"),
        ("runs", "--trigger", tenant.full("refresh")): ("started", "rows=1 region=eu", f"{tenant.namespace}/flow-"),
        ("deadletters",): (letter["id"], "not-json", f"{event}:0:4"),
        ("deadletters", "list"): (letter["id"],),
        ("deadletters", "show", letter["id"]): ("no json", letter["message"]),
        ("lag",): ("route", event, "submit", f"{engine.prefix}firings"),
        ("status",): ("route", "join", "submit", "yes"),
    }
    for command, parts in people.items():
        shown = engine.here(*command).expect(0)
        text = " ".join(shown.stdout.split())
        assert all(" ".join(part.split()) in text.replace('{"rows": 1', '{"rows":1') for part in parts), shown
    programs: dict[Command, str] = {
        ("events", event, "--json"): "event",
        ("triggers", "--json"): "trigger",
        ("runs", "--json"): "run",
        ("deadletters", "list", "--json"): "deadletter",
        ("deadletters", "show", letter["id"], "--json"): "deadletter",
        ("lag", "--json"): "lag",
        ("status", "--json"): "status",
    }
    for command, word in programs.items():
        schema = Draft202012Validator(json.loads((SCHEMAS / f"{word}.schema.json").read_text()))
        rows = engine.here(*command).expect(0).rows
        assert rows and all(schema.is_valid(row) for row in rows), command


def test_following_shows_what_comes_and_ends_quietly_on_ctrl_c(tenant: Tenant) -> None:
    tenant.template("flow", {"n": None})
    event = tenant.event("n")
    tenant.deploy(tenant.trigger("n", [event], "flow"))
    tenant.produce([Bare(event, b'{"n": 1}', [("ce_id", b"one")])])
    tenant.wait_for_workflows(1)
    tenant.settle(event)
    with (
        following(tenant.engine, "events", event, "--follow", "--json") as events,
        following(tenant.engine, "runs", "--trigger", tenant.full("n"), "--follow", "--json") as runs,
    ):
        assert events.stdout is not None and runs.stdout is not None
        assert json.loads(events.stdout.readline())["id"] == "one"
        assert json.loads(runs.stdout.readline())["parameters"] == {"n": "1"}
        tenant.produce([Bare(event, b'{"n": 2}', [("ce_id", b"two")])])
        assert json.loads(events.stdout.readline())["id"] == "two"
        assert json.loads(runs.stdout.readline())["parameters"] == {"n": "2"}
        for process in (events, runs):
            process.send_signal(signal.SIGINT)
            rest, complaint = process.communicate(timeout=COMMAND_TIMEOUT_S)
            assert (rest, complaint) == ("", "")
            assert process.returncode == 130


def test_a_missing_broker_is_one_sentence_from_every_command(idle_engine: Engine, tmp_path: Path) -> None:
    nowhere = f"{LOOPBACK}:{free_port()}"
    file = tmp_path / "trigger.yaml"
    file.write_text(
        "apiVersion: headrace.dev/v1\nkind: Trigger\nmetadata: {name: t}\n"
        "spec: {events: [e], run: {workflowTemplate: w}}\n"
    )
    commands: list[Command] = [
        ("run", "join"),
        ("up",),
        ("status",),
        ("deploy", str(file)),
        ("triggers",),
        ("delete", "t"),
        ("publish", "e"),
        ("events", "e"),
        ("runs",),
        ("deadletters",),
        ("lag",),
    ]
    for refused in said(idle_engine, commands, HEADRACE_BOOTSTRAP_SERVERS=nowhere):
        if refused.arguments == ("up",):
            # It tells what it does before, as it is meant for a terminal.
            assert f"no Kafka broker answers at {nowhere}" in refused.expect(1).stderr.splitlines()[-1]
        else:
            assert refused.refusal().startswith(f"headrace: no Kafka broker answers at {nowhere}"), refused


def test_without_any_kafka_configured_commands_say_how_to_start_one(tmp_path: Path) -> None:
    for command in ("status",), ("publish", "e"), ("lag",):
        sentence = here({"HEADRACE_STATE": str(tmp_path)}, *command).refusal()
        assert "no Kafka is configured" in sentence and "headrace up" in sentence


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("HEADRACE_PARTITIONS", "many"),
        ("HEADRACE_REPLICATION", "0"),
        ("HEADRACE_WINDOW", "an hour"),
        ("HEADRACE_KAFKA_NO_SUCH_PROPERTY", "1"),
        ("HEADRACE_KAFKA_SECURITY_PROTOCOL", "SECRET"),
        ("HEADRACE_TOPIC_PREFIX", "not a topic/"),
    ],
)
def test_a_setting_that_cannot_work_is_named(idle_engine: Engine, variable: str, value: str) -> None:
    sentence = here({**idle_engine.environment, variable: value}, "status").refusal()
    assert variable in sentence or variable.removeprefix("HEADRACE_KAFKA_").lower().replace("_", ".") in sentence


def test_before_headrace_ever_ran_commands_say_so(idle_engine: Engine) -> None:
    for command in ("status",), ("runs",), ("deadletters",), ("deadletters", "show", "x"):
        assert "Headrace never ran on this Kafka" in idle_engine.here(*command).refusal()
    for command in ("triggers",), ("lag",):
        assert idle_engine.here(*command).expect(0).stdout == ""
    assert "there is no trigger" in idle_engine.here("delete", "a/b").refusal()


def test_a_deployment_that_no_router_confirms_says_so(idle_engine: Engine, tenant: Tenant) -> None:
    file = tenant.trigger("lonely", [tenant.event("lonely")], "flow")
    sentence = idle_engine.here("deploy", "--timeout", "0.5", "-", stdin=file).refusal()
    assert "no router has confirmed it" in sentence and "headrace run route" in sentence


def test_status_names_the_roles_that_are_missing(idle_engine: Engine) -> None:
    def status() -> Said:
        return idle_engine.here("status", "--json").expect(1)

    (route,) = idle_engine.start_and_wait("route")
    # A role announces itself each second, so that the command may know later than the role's own address.
    idle_engine.wait_until(lambda: [row["ready"] for row in status().rows] == [True], "the announcement")
    assert [(row["role"], row["pid"]) for row in status().rows] == [("route", route.pid)]
    assert status().stderr == "not ready: join, submit\n"


def test_unknown_names_are_refused_with_one_sentence(tenant: Tenant) -> None:
    commands: dict[Command, str] = {
        ("delete", tenant.full("nope")): f"there is no trigger {tenant.full('nope')}",
        ("runs", "--trigger", tenant.full("nope")): f"there is no trigger {tenant.full('nope')}",
        ("delete", "No/Name"): "cannot name a trigger",
        ("events", tenant.event("nope")): f"there is no topic {tenant.event('nope')}",
        ("publish", tenant.event("nope")): f"no topic {tenant.event('nope')}",
        ("resume", tenant.event("nope")): "no trigger waits for the event",
        ("deadletters", "show", "nope"): "there is no dead letter nope",
        ("deadletters", "retry", "nope"): "there is no dead letter nope",
    }
    for command, part in commands.items():
        assert part in tenant.engine.here(*command).refusal()


def test_payloads_and_times_that_cannot_be_are_refused(tenant: Tenant) -> None:
    event = tenant.event("any")
    commands: dict[Command, str] = {
        ("publish", event, "--payload", "{no"): "--payload is not JSON",
        ("publish", event, "--payload", "[1]"): "--payload is no JSON object",
        ("publish", event, "--payload", "-"): "standard input is not JSON",
        ("publish", event, "--payload", "@missing.json"): "missing.json cannot be read",
        ("publish", event, "--time", "yesterday"): "yesterday",
    }
    for command, part in commands.items():
        assert part in tenant.engine.here(*command).refusal()


def test_wrong_usage_ends_with_2() -> None:
    commands: list[Command] = [
        (),
        ("nonsense",),
        ("publish",),
        ("publish", "e", "-p", "novalue"),
        ("publish", "e", "-p", "=x"),
        ("deploy",),
        ("deploy", "f.yaml", "--timeout", "soon"),
        ("run", "nonsense"),
        ("run",),
        ("delete",),
        ("events", "e", "--last", "-1"),
        ("runs", "--no-such-option"),
        ("deadletters", "retry"),
        ("deadletters", "nonsense"),
        ("lag", "superfluous"),
        ("up", "--port", "x"),
    ]
    for command in commands:
        refused = here({}, *command).expect(2)
        assert refused.stdout + refused.stderr
    help_text = here({}, "--help").expect(0).stdout
    every = ["up", "run", "status", "deploy", "triggers", "delete", "publish", "events", "runs", "deadletters", "lag"]
    assert all(f" {command} " in help_text for command in every)
