"""Roles as processes: any number of each, their health, a clean end, and starts that are refused."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from pathlib import Path

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType
from confluent_kafka.cimpl import NewTopic

from headrace.edges.loopback_port import free_port
from tests.support.engine import ROLES, Engine, get
from tests.support.event_sets import COUNT_TIMEOUT_S, EVENT_PARTITIONS, EventSets
from tests.support.kafka import DEADLINE_S
from tests.support.kube import KubeServer, watch_workflow_uids
from tests.support.kube_gateway import write_kubeconfig
from tests.support.tenant import Bare, Tenant, parameters_of

SETS = 200
PARTITIONS = 8
SMALL_BYTES = 100
LARGE_BYTES = 8 * 1024 * 1024
# With which a role ends that must not go on.
GAVE_UP_STATUS = 70


def shares(engine: Engine, role: str, topics: tuple[str, ...]) -> list[int]:
    """How many partitions of these topics each member of a role's group holds."""
    admin = AdminClient({"bootstrap.servers": engine.bootstrap_servers})
    group = f"{engine.prefix}{role}"
    members = admin.describe_consumer_groups([group])[group].result().members
    return [sum(at.topic in topics for at in member.assignment.topic_partitions) for member in members]


def test_several_processes_of_each_role_share_the_work_and_one_may_stop(idle_engine: Engine, kube: KubeServer) -> None:
    idle_engine.start_and_wait(*ROLES, *ROLES)
    tenant = Tenant(idle_engine, kube, {"bootstrap.servers": idle_engine.bootstrap_servers})
    sets = EventSets(tenant, SETS, SETS, secrets.randbits(32))
    print(f"seed {sets.seed}")
    sets.deploy()
    prefix = idle_engine.prefix
    topics = {"route": sets.events, "join": (f"{prefix}matches",), "submit": (f"{prefix}firings",)}
    counts = {"route": len(sets.events) * EVENT_PARTITIONS, "join": PARTITIONS, "submit": PARTITIONS}
    for role, names in topics.items():

        def shared(role: str = role, names: tuple[str, ...] = names) -> bool:
            held = shares(idle_engine, role, names)
            # The routers' groups has a partition more, which weighs as much as any: that of the author of ticks.
            return len(held) == 2 and sum(held) == counts[role] and min(held) >= counts[role] // 2 - 1

        idle_engine.wait_until(shared, f"two {role} processes that share {counts[role]} partitions")
    with watch_workflow_uids(kube, tenant.namespace) as watch:
        for number, role in enumerate(ROLES, start=1):
            begin, end = (len(sets.records) * (number - 1) // 4, len(sets.records) * number // 4)
            tenant.produce(sets.records[begin:end])
            assert idle_engine.terminate(role) == 0
        tenant.produce(sets.records[len(sets.records) * 3 // 4 :])
        watch.wait_for(2 * SETS, COUNT_TIMEOUT_S)
        sets.check(watch)
    for role, names in topics.items():
        assert shares(idle_engine, role, names) == [counts[role]]


def set_bytes_max(engine: Engine, word: str, bytes_max: int) -> None:
    """Let an internal topic take records of this size only."""
    entry = ConfigEntry("max.message.bytes", str(bytes_max), incremental_operation=AlterConfigOpType.SET)
    topic = ConfigResource(ResourceType.TOPIC, f"{engine.prefix}{word}", incremental_configs=[entry])
    admin = AdminClient({"bootstrap.servers": engine.bootstrap_servers})
    for changed in admin.incremental_alter_configs([topic]).values():
        changed.result(DEADLINE_S)


def test_a_role_whose_output_kafka_refuses_ends_and_loses_nothing(mortal_engine: Engine, kube: KubeServer) -> None:
    engine = mortal_engine
    engine.start_and_wait()
    tenant = Tenant(engine, kube, {"bootstrap.servers": engine.bootstrap_servers})
    tenant.template("flow", {"n": None, "m": None})
    single, left, right = tenant.event("single"), tenant.event("left"), tenant.event("right")
    tenant.deploy(tenant.trigger("single", [single], "flow"), tenant.trigger("both", [left, right], "flow"))
    with watch_workflow_uids(kube, tenant.namespace) as watch:
        # The Workflow is there when its run cannot be recorded.
        set_bytes_max(engine, "runs", SMALL_BYTES)
        tenant.produce([Bare(single, b'{"n": 1}')])
        assert engine.wait_for_end("submit") == GAVE_UP_STATUS
        set_bytes_max(engine, "runs", LARGE_BYTES)
        engine.start("submit")
        tenant.wait_for_state("single", "started")

        set_bytes_max(engine, "firings", SMALL_BYTES)
        tenant.produce([Bare(left, b'{"n": 2}'), Bare(right, b'{"m": 2}')])
        assert engine.wait_for_end("join") == GAVE_UP_STATUS
        tenant.produce([Bare(single, b'{"n": 3}')])
        assert engine.wait_for_end("route") == 1
        set_bytes_max(engine, "firings", LARGE_BYTES)
        engine.start("route", "join")
        tenant.wait_for_state("single", "started", count=2)
        tenant.wait_for_state("both", "started")
        tenant.settle(single, left, right)
        found = sorted(sorted(parameters_of(workflow).items()) for workflow in watch.seen.values())
    assert found == [[("m", "2"), ("n", "2")], [("n", "1")], [("n", "3")]]
    states = sorted((trigger, state) for trigger, _, state in tenant.run_records())
    assert states == [("both", "started"), ("single", "started"), ("single", "started")]
    assert tenant.dead_letters() == []


def test_an_event_topic_that_lost_records_stops_until_it_is_resumed(idle_engine: Engine, kube: KubeServer) -> None:
    idle_engine.start_and_wait("route", "submit")
    tenant = Tenant(idle_engine, kube, {"bootstrap.servers": idle_engine.bootstrap_servers})
    tenant.template("flow", {"n": None})
    event, other = tenant.event("shortened"), tenant.event("other")
    tenant.deploy(tenant.trigger("one", [event], "flow"), tenant.trigger("two", [other], "flow"))

    def record(n: int) -> Bare:
        return Bare(event, f'{{"n": {n}}}'.encode())

    tenant.produce(record(n) for n in (0, 1, 2))
    tenant.wait_for_workflows(3)
    assert idle_engine.terminate("route") == 0
    admin = AdminClient({"bootstrap.servers": idle_engine.bootstrap_servers})
    tenant.produce(record(n) for n in (100, 101, 3))
    for deleted in admin.delete_records([TopicPartition(event, 0, 5)]).values():
        deleted.result(DEADLINE_S)

    (route,) = idle_engine.start("route")
    why = f"stopped, since their offsets are gone: {event}:0\n"
    idle_engine.wait_until(lambda: get(idle_engine.address(route), "/readyz") == (503, why), "the topic's stop")
    # Roles announce themselves each second.
    idle_engine.wait_until(lambda: f"{event}:0" in idle_engine.here("status").expect(1).stdout, "its place in status")
    # The other topics go on.
    tenant.produce([Bare(other, b'{"n": 10}')])
    tenant.wait_for_workflows(4)
    # Nobody is resumed in passing, by deploying the trigger again for instance.
    tenant.deploy(tenant.trigger("two", [other], "flow", maxAge="1h"))
    assert idle_engine.metrics("route")["headrace_event_partitions_stopped"] == 1
    resumed = idle_engine.here("resume", event).expect(0)
    assert tenant.full("one") in resumed.stdout
    tenant.produce([record(4)])
    workflows = tenant.wait_for_workflows(6)
    assert sorted(int(parameters_of(workflow)["n"]) for workflow in workflows) == [0, 1, 2, 3, 4, 10]
    assert idle_engine.terminate("route") == 0
    idle_engine.start_and_wait("route")


def test_workflows_start_only_where_the_settings_allow_it(idle_engine: Engine, kube: KubeServer) -> None:
    client = {"bootstrap.servers": idle_engine.bootstrap_servers}
    allowed, other = Tenant(idle_engine, kube, client), Tenant(idle_engine, kube, client)
    idle_engine.environment["HEADRACE_NAMESPACES"] = f"{allowed.namespace},elsewhere"
    idle_engine.start_and_wait("route", "submit")
    for tenant in (allowed, other):
        tenant.template("flow", {"n": None})
        tenant.deploy(tenant.trigger("n", [tenant.event("n")], "flow"))
        tenant.produce([Bare(tenant.event("n"), b'{"n": 1}')])
    allowed.wait_for_state("n", "started")
    other.wait_for_state("n", "refused")
    assert (len(allowed.workflows()), len(other.workflows())) == (1, 0)
    (letter,) = other.dead_letters()
    assert letter["reason"] == "namespace-not-allowed" and "HEADRACE_NAMESPACES" in letter["message"]


def test_health_and_metrics_of_each_role(engine: Engine, tenant: Tenant) -> None:
    own = {
        "route": "headrace_ticks_total",
        "join": "headrace_join_time_seconds",
        "submit": "headrace_runs_queued",
    }
    tenant.deploy(tenant.trigger("some", [tenant.event("a"), tenant.event("b")], "flow"))
    tenant.settle(tenant.event("a"))
    for role, metric in own.items():
        (process,) = engine.running(role)
        address = engine.address(process)
        assert get(address, "/livez") == (200, "ok\n")
        assert get(address, "/readyz") == (200, "ok\n")
        assert get(address, "/else")[0] == 404
        assert address.startswith("127.0.0.1:")
        metrics = engine.metrics(role)
        assert any(name.startswith(metric) and value >= 0 for name, value in metrics.items()), metric
    assert engine.metrics("route")["headrace_triggers"] >= 1


def test_a_submitter_that_cannot_reach_the_api_server_says_so(idle_engine: Engine, tmp_path: Path) -> None:
    config = write_kubeconfig(tmp_path / "config", f"https://127.0.0.1:{free_port()}", {"token": "any"})
    (process,) = idle_engine.start("submit", KUBECONFIG=str(config))

    def told() -> bool:
        rows = idle_engine.here("status", "--json").rows
        return any(row["pid"] == process.pid and "did not answer" in (row["why"] or "") for row in rows)

    idle_engine.wait_until(told, "the reason in headrace status")
    assert get(idle_engine.address(process), "/readyz")[0] == 503
    assert get(idle_engine.address(process), "/livez") == (200, "ok\n")


@pytest.mark.parametrize(
    ("word", "partitions", "config", "complaint"),
    [
        ("runs", PARTITIONS, {"cleanup.policy": "delete"}, "cleanup.policy=delete; it must be compact,delete"),
        ("triggers", 1, {"cleanup.policy": "delete"}, "cleanup.policy=delete; it must be compact"),
        ("matches", PARTITIONS, {"cleanup.policy": "compact"}, "cleanup.policy=compact; it must be delete"),
        ("firings", PARTITIONS, {"retention.ms": "1000"}, "retention.ms=1000"),
        ("joins", 3, {"cleanup.policy": "compact"}, "partitions"),
    ],
)
def test_an_internal_topic_that_would_lose_data_stops_the_start(
    idle_engine: Engine,
    word: str,
    partitions: int,
    config: Mapping[str, str],
    complaint: str,
) -> None:
    name = f"{idle_engine.prefix}{word}"
    large = {"max.message.bytes": str(LARGE_BYTES)}
    topic = NewTopic(name, partitions, 1, config={**large, **config})
    admin = AdminClient({"bootstrap.servers": idle_engine.bootstrap_servers})
    admin.create_topics([topic])[name].result(DEADLINE_S)
    if word == "runs":
        sentence = idle_engine.cli("run", "submit").refusal()
    else:
        trigger = "apiVersion: headrace.dev/v1\nkind: Trigger\nmetadata: {name: t}\n"
        trigger += "spec: {events: [e], run: {workflowTemplate: w}}\n"
        sentence = idle_engine.here("deploy", "-", stdin=trigger).refusal()
    assert name in sentence and complaint in sentence
