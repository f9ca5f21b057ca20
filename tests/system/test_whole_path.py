"""From an event to a run on real parts: deploying, joining, changing, pausing and deleting triggers."""

from __future__ import annotations

import time
from collections.abc import Sequence

from headrace.model.times import instant_text
from tests.support.engine import Engine
from tests.support.kube import KubeServer, create_workflow_template
from tests.support.tenant import Bare, Tenant, parameters_of

MINUTE_MS = 60_000


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def bare(event: str, text: str, at_ms: int | None = None) -> Bare:
    """A record without an id; with a time only where the test sets one."""
    headers = [("ce_time", instant_text(at_ms).encode())] if at_ms is not None else None
    return Bare(event, text.encode(), headers)


def passed(tenant: Tenant, *names: str) -> list[tuple[str | None, ...]]:
    """The values of these parameters in each of the tenant's Workflows, in order of the values."""
    found = [parameters_of(workflow) for workflow in tenant.workflows()]
    return sorted((tuple(row.get(name) for name in names) for row in found), key=str)


def test_publish_right_after_deploy_fires_for_an_event_without_a_topic(tenant: Tenant) -> None:
    tenant.template("refresh", {"rows": None, "region": "eu", "tier": None})
    event = tenant.event("data_updated")
    run = {"workflowTemplate": "refresh", "parameters": {"tier": "prod"}}
    deployed = tenant.engine.cli("deploy", "-", stdin=tenant.trigger("refresh", [event], run)).expect(0)
    published = tenant.engine.cli("publish", event, "-p", "rows=1001", "-p", "other=x").expect(0)

    assert f"{tenant.full('refresh')} deployed (generation 1)" in deployed.stdout
    will_trigger = f"{tenant.full('refresh')} starts workflowTemplate refresh when the event {event} is published."
    assert will_trigger in deployed.stdout
    (workflow,) = tenant.wait_for_workflows(1)
    # The payload's fields go to the parameters of their names; what the template does not declare stays out.
    assert parameters_of(workflow) == {"rows": "1001", "tier": "prod"}
    tenant.wait_for_state("refresh", "started")
    (run_row,) = tenant.runs("refresh")
    assert [used["id"] for used in run_row["events"]] == [published.stdout.strip()]


def test_two_triggers_on_one_event_each_run_and_a_deleted_one_does_not(tenant: Tenant) -> None:
    tenant.template("one", {"n": None})
    tenant.template("two", {"n": None})
    event = tenant.event("n")
    tenant.deploy(
        tenant.trigger("one", [event], "one"),
        tenant.trigger("two", [{"name": event, "filter": "event.n < 2"}], "two"),
    )
    tenant.produce([bare(event, '{"n": 1}'), bare(event, '{"n": 2}')])
    tenant.settle(event)
    assert passed(tenant, "n") == [("1",), ("1",), ("2",)]

    deleted = tenant.engine.here("delete", tenant.full("one")).expect(0)
    assert deleted.stdout == f"{tenant.full('one')} deleted; what it has fired already still runs\n"
    # Routers read deployments in order, so this one's confirmation says that they have read the deletion.
    tenant.deploy(tenant.trigger("three", [{"name": event, "filter": "false"}], "one"))
    tenant.produce([bare(event, '{"n": 0}')])
    tenant.settle(event)
    assert passed(tenant, "n") == [("0",), ("1",), ("1",), ("2",)]
    assert {row["trigger"] for row in tenant.runs("two")} == {tenant.full("two")}
    again = tenant.engine.here("delete", tenant.full("one")).refusal()
    assert f"there is no trigger {tenant.full('one')}" in again


def test_a_trigger_that_is_deployed_again_after_its_deletion_is_another(tenant: Tenant) -> None:
    tenant.template("flow", {"n": None})
    event = tenant.event("again")
    trigger = tenant.trigger("again", [event], "flow")
    same_id = [Bare(event, b'{"n": 1}', [("ce_id", b"same")])]
    tenant.deploy(trigger)
    tenant.produce(same_id)
    tenant.wait_for_workflows(1)
    tenant.engine.here("delete", tenant.full("again")).expect(0)
    tenant.deploy(trigger)
    # What lies in the topic from before is not matched; the same event published now is.
    tenant.settle(event)
    assert len(tenant.workflows()) == 1
    tenant.produce(same_id)
    tenant.settle(event)
    assert len(tenant.workflows()) == 2


def test_a_cluster_template_and_events_that_lie_before_the_deployment(tenant: Tenant) -> None:
    name = f"of-cluster-{tenant.suffix}"
    create_workflow_template(tenant.kube, "", name, {"n": None}, cluster=True)
    event = tenant.event("early")
    tenant.create_topics({event: 1})
    tenant.produce([bare(event, '{"n": 0}'), bare(event, '{"n": 0}')])
    tenant.deploy(tenant.trigger("of-cluster", [event], {"clusterWorkflowTemplate": name}))
    lags = tenant.engine.here("lag", "--json").expect(0).rows
    assert [row["records"] for row in lags if row["topic"] == event] == [0]
    tenant.produce([bare(event, '{"n": 1}') for _ in range(3)])
    workflows = tenant.wait_for_workflows(3)
    assert {w["spec"]["workflowTemplateRef"]["name"] for w in workflows} == {name}
    assert all(w["spec"]["workflowTemplateRef"]["clusterScope"] is True for w in workflows)
    tenant.settle(event)
    assert passed(tenant, "n") == [("1",)] * 3


def test_an_event_from_before_a_deployment_is_not_its_own_even_if_it_is_read_afterwards(tenant: Tenant) -> None:
    engine = tenant.engine
    tenant.template("first", {"n": None})
    tenant.template("second", {"n": None})
    event = tenant.event("n")
    tenant.deploy(tenant.trigger("first", [event], "first"))
    assert engine.terminate("route") == 0
    tenant.produce([bare(event, '{"n": 1}')])
    unconfirmed = engine.here("deploy", "--timeout", "0", "-", stdin=tenant.trigger("second", [event], "second"))
    assert "the trigger is deployed, but no router has confirmed it" in unconfirmed.refusal()
    tenant.produce([bare(event, '{"n": 2}')])
    engine.start_and_wait("route")
    tenant.settle(event)
    found = [(w["spec"]["workflowTemplateRef"]["name"], parameters_of(w)["n"]) for w in tenant.workflows()]
    assert sorted(found) == [("first", "1"), ("first", "2"), ("second", "2")]


def test_key_window_latest_and_each_by_event_time(tenant: Tenant) -> None:
    tenant.template("latest", {"k": None, "a": None, "b": None})
    tenant.template("each", {"k": None, "a": None, "b": None})
    event = tenant.event("reading")
    sides = [
        {"name": event, "filter": "has(event.a)", "key": "event.k"},
        {"name": event, "filter": "has(event.b)", "key": "event.k"},
    ]
    tenant.deploy(
        tenant.trigger("latest", sides, "latest", window="10m"),
        tenant.trigger("each", sides, "each", window="10m", match="each"),
    )
    # Neither late, at ten minutes' window and one of lateness, nor further ahead than events may be.
    base_ms = now_ms() - 8 * MINUTE_MS
    script: Sequence[tuple[int, str]] = [
        # Two that wait, then one that completes: `latest` takes the newer and drops the older.
        (0, '{"k": "pairs", "a": "a0"}'),
        (1, '{"k": "pairs", "a": "a1"}'),
        (2, '{"k": "pairs", "b": "b2"}'),
        (3, '{"k": "pairs", "b": "b3"}'),
        # A key is its value, however it is written; other keys do not join.
        (0, '{"k": 7, "a": "int"}'),
        (0, '{"k": "7", "a": "text"}'),
        (1, '{"k": 7.0, "b": "float"}'),
        # The window's edge belongs to it, in either order of arrival; a millisecond more does not.
        (10, '{"k": "edge", "b": "at10"}'),
        (0, '{"k": "edge", "a": "at0"}'),
        (0, '{"k": "beyond", "a": "at0"}'),
    ]
    records = [bare(event, text, base_ms + minute * MINUTE_MS) for minute, text in script]
    tenant.produce([*records, bare(event, '{"k": "beyond", "b": "late"}', base_ms + 10 * MINUTE_MS + 1)])
    tenant.settle(event)

    found = {"latest": set[tuple[str, ...]](), "each": set[tuple[str, ...]]()}
    for workflow in tenant.workflows():
        values = parameters_of(workflow)
        found[workflow["spec"]["workflowTemplateRef"]["name"]].add((values["k"], values["a"], values["b"]))
    shared = {("7", "int", "float"), ("edge", "at0", "at10")}
    assert found["latest"] == {("pairs", "a1", "b2"), *shared}
    assert found["each"] == {("pairs", "a0", "b2"), ("pairs", "a1", "b3"), *shared}
    assert len(tenant.workflows()) == 7
    assert tenant.dead_letters() == []


def test_explicit_times_on_the_command_line_decide_what_is_late_and_what_is_too_old(tenant: Tenant) -> None:
    tenant.template("flow", {"n": None, "m": None})
    left, right, lone = tenant.event("left"), tenant.event("right"), tenant.event("lone")
    tenant.deploy(
        tenant.trigger("both", [left, right], "flow", window="10m"),
        tenant.trigger("fresh", [lone], "flow", maxAge="1h"),
    )
    hours_ago, minutes_ago = instant_text(now_ms() - 120 * MINUTE_MS), instant_text(now_ms() - 5 * MINUTE_MS)
    publish = ("publish", "--time", hours_ago)
    late_id = tenant.engine.here(*publish, left, "--id", "late", "-p", "n=1").expect(0).stdout.strip()
    tenant.engine.here(*publish, lone, "--id", "stale", "-p", "n=2").expect(0)
    tenant.engine.here("publish", "--time", minutes_ago, left, "-p", "n=3").expect(0)
    tenant.engine.here("publish", "--time", minutes_ago, right, "-p", "m=4").expect(0)
    tenant.engine.here("publish", "--time", minutes_ago, lone, "-p", "n=5").expect(0)
    tenant.settle(left, right, lone)

    assert passed(tenant, "n", "m") == [("3", "4"), ("5", None)]
    letters = {letter["reason"]: letter for letter in tenant.dead_letters()}
    assert set(letters) == {"late", "too-old"}
    assert (letters["late"]["event_id"], letters["late"]["trigger"]) == (late_id, tenant.full("both"))
    assert (letters["too-old"]["event_id"], letters["too-old"]["trigger"]) == ("stale", tenant.full("fresh"))
    assert "maxAge is 3600 s" in letters["too-old"]["message"]


def test_a_changed_trigger_keeps_what_waits_unless_events_key_or_window_change(tenant: Tenant) -> None:
    tenant.template("old", {"n": None, "m": None})
    tenant.template("new", {"n": None, "m": None})
    left, right = tenant.event("left"), tenant.event("right")

    def both(run: str, left_filter: str = "event.n > 0", window: str = "1h") -> str:
        return tenant.trigger("both", [{"name": left, "filter": left_filter}, right], run, window=window)

    tenant.deploy(both("old"))
    tenant.produce([bare(left, '{"n": 1}')])
    tenant.settle(left)
    # Another target changes nothing of what waits; the run is the one of the definition that completed the set.
    assert "(generation 2)" in tenant.deploy(both("new")).stdout
    tenant.produce([bare(right, '{"m": 1}')])
    tenant.settle(right)
    (first,) = tenant.workflows()
    assert first["spec"]["workflowTemplateRef"]["name"] == "new"
    assert parameters_of(first) == {"n": "1", "m": "1"}

    for number, changed in ((2, both("new", left_filter="event.n > 1")), (3, both("new", window="2h"))):
        tenant.produce([bare(left, f'{{"n": {number}0}}')])
        tenant.settle(left)
        tenant.deploy(changed)
        # What waited belongs to another question, so this one waits in turn.
        tenant.produce([bare(right, f'{{"m": {number}}}')])
        tenant.settle(right)
        tenant.produce([bare(left, f'{{"n": {number}}}')])
        tenant.settle(left)
    assert passed(tenant, "n", "m") == [("1", "1"), ("2", "2"), ("3", "3")]


def test_a_paused_trigger_holds_its_firings_until_a_later_deployment(tenant: Tenant) -> None:
    tenant.template("flow", {"n": None, "m": None})
    single, left, right = tenant.event("single"), tenant.event("left"), tenant.event("right")

    def triggers(paused: bool) -> list[str]:
        return [
            tenant.trigger("single", [single], "flow", paused=paused),
            tenant.trigger("both", [left, right], "flow", paused=paused),
        ]

    assert "(paused: its runs are held)" in tenant.deploy(*triggers(paused=True)).stdout
    tenant.produce([bare(single, '{"n": 1}'), bare(left, '{"n": 2}'), bare(right, '{"m": 2}')])
    tenant.settle(single, left, right)
    assert tenant.workflows() == []
    for trigger in ("single", "both"):
        (held,) = tenant.runs(trigger)
        assert (held["state"], held["reason"]) == ("queued", "paused")
    tenant.engine.wait_until(lambda: tenant.engine.metrics("submit")["headrace_runs_queued"] == 2, "two queued runs")

    tenant.deploy(*triggers(paused=False))
    for trigger in ("single", "both"):
        tenant.wait_for_state(trigger, "started")
    tenant.settle(single, left, right)
    assert passed(tenant, "n", "m") == [("1", None), ("2", "2")]
    states = sorted((trigger, state) for trigger, _, state in tenant.run_records())
    assert states == [("both", "queued"), ("both", "started"), ("single", "queued"), ("single", "started")]


def test_what_a_pause_held_can_be_dropped(mortal_engine: Engine, kube: KubeServer) -> None:
    engine = mortal_engine
    engine.start_and_wait()
    tenant = Tenant(engine, kube, {"bootstrap.servers": engine.bootstrap_servers})
    tenant.template("flow", {"n": None})
    held, deleted = tenant.event("held"), tenant.event("deleted")

    def unread(role: str) -> int:
        rows = engine.here("lag", "--json").expect(0).rows
        return sum(int(row["records"]) for row in rows if row["role"] == role)

    paused, resumed = (tenant.trigger("held", [held], "flow", paused=paused) for paused in (True, False))
    assert "is not paused" in engine.here("deploy", "--drop-held", "-", stdin=paused).refusal()
    tenant.deploy(paused, tenant.trigger("deleted", [deleted], "flow", paused=True))
    assert "stays paused" in engine.here("deploy", "--drop-held", "-", stdin=paused).refusal()
    tenant.produce([bare(held, '{"n": 1}'), bare(deleted, '{"n": 2}')])
    tenant.settle(held, deleted)
    # One firing is on record as queued; the other comes while no submitter is there.
    engine.kill("submit")
    tenant.produce([bare(held, '{"n": 3}')])
    engine.wait_until(lambda: unread("submit") == 1, "the firing")
    engine.here("delete", tenant.full("deleted")).expect(0)
    engine.here("deploy", "--drop-held", "-", stdin=resumed).expect(0)
    tenant.produce([bare(held, '{"n": 4}')])
    engine.start_and_wait("submit")
    tenant.wait_for_workflows(1)
    tenant.settle(held, deleted)
    assert passed(tenant, "n") == [("4",)]
    letters = tenant.dead_letters()
    assert [letter["reason"] for letter in letters] == ["dropped"] * 3
    (letter,) = (letter for letter in letters if letter["topic"] == deleted)
    assert "deleted while it was paused" in letter["message"]

    # It is the person's choice to the end.
    (dropped, _) = (letter for letter in letters if letter["topic"] == held)
    engine.here("deadletters", "retry", dropped["id"]).expect(0)
    assert len(tenant.wait_for_workflows(2)) == 2
