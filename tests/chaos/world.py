"""The world of a run: an embedded Kafka, an API server behind a gateway, a fleet of roles, and a watch that counts."""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from confluent_kafka import ConsumerGroupState, ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    OffsetSpec,
    ResourceType,
)

from headrace.edges.kafka.embedded import EmbeddedKafka
from headrace.edges.kafka.topics import partition_counts
from tests.chaos.fleet import Fleet
from tests.chaos.sets import EVENTS, ROWS_MIN
from tests.chaos.watch import RunWatch
from tests.support.engine import ROLES, Engine, RoleProcess
from tests.support.kafka import TEST_PROPERTIES, wait_until
from tests.support.kube import KubeServer, install_crds, list_workflows, request_json, start_kube_server
from tests.support.kube_gateway import KubeGateway, write_kubeconfig
from tests.support.tenant import Tenant

EVENT_PARTITIONS = 4
TOPIC_BYTES_MAX = 4_000_000
# What a dead join held is free after 18 s instead of 45 s; see the tests' `mortal_engine`.
JOIN_SESSION_MS = 18_000
DEADLINE_S = 120.0
_WORKFLOWS = "/apis/argoproj.io/v1alpha1/namespaces/{namespace}/workflows"


class World:
    """Everything that a run uses; see `world`."""

    def __init__(self, kafka: EmbeddedKafka, kube: KubeServer, gateway: KubeGateway, directory: Path) -> None:
        """Put the parts together; all of them run, but no role does yet."""
        self.kafka, self.kube, self.gateway, self.directory = kafka, kube, gateway, directory
        kubeconfig = write_kubeconfig(directory / "kubeconfig.yaml", gateway.url, {"token": kube.admin_token})
        self.engine = Engine(
            {
                "HEADRACE_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
                "HEADRACE_TOPIC_PREFIX": f"h{uuid.uuid4().hex[:8]}.",
                "HEADRACE_NAMESPACES": "*",
                "HEADRACE_KAFKA_SESSION_TIMEOUT_MS": str(JOIN_SESSION_MS),
                "KUBECONFIG": str(kubeconfig),
            },
            directory / "roles",
        )
        self.fleet = Fleet(self.engine)
        # Kafka goes away on purpose; librdkafka would tell so on the terminal, a line a second.
        self.client = {"bootstrap.servers": kafka.bootstrap_servers, "log_level": "2"}
        self.tenant = Tenant(self.engine, kube, self.client)
        self.watch = RunWatch(lambda: self.kube, self.tenant.namespace)

    def admin(self) -> AdminClient:
        """Return a new client: librdkafka's get no answer about a group any more once their only broker was restarted.

        Keep it until its answers have come; they do not come once it is gone.
        """
        return AdminClient({**self.client})

    @property
    def events(self) -> tuple[str, ...]:
        """The names of all event topics."""
        return tuple(self.tenant.event(word) for word in EVENTS)

    def deploy(self, window: str) -> None:
        """Create the topics, templates and triggers, once the roles are ready to be told."""
        tenant = self.tenant
        tenant.create_topics(dict.fromkeys(self.events, EVENT_PARTITIONS), max_message_bytes=str(TOPIC_BYTES_MAX))
        single, left, right, third = self.events
        parameters = {"single": ("text",), "rich": ("text",), "pair": ("left", "right"), "each": ("left", "right")}
        parameters["triple"] = ("left", "right", "third")
        for template, names in parameters.items():
            tenant.template(template, dict.fromkeys(("set", *names)))

        def joined(name: str, events: tuple[str, ...], match: str) -> str:
            mine = f"has(event.kind) && event.kind == '{name}'"
            dependencies = [{"name": event, "filter": mine, "key": "event.key"} for event in events]
            return tenant.trigger(name, dependencies, name, match=match, window=window)

        deployed = self.engine.cli(
            "deploy",
            "-",
            "--timeout",
            "60",
            stdin="---\n".join(
                (
                    tenant.trigger("single", [single], "single"),
                    tenant.trigger("rich", [{"name": single, "filter": f"event.rows > {ROWS_MIN}"}], "rich"),
                    joined("pair", (left, right), "latest"),
                    joined("each", (left, right), "each"),
                    joined("triple", (left, right, third), "latest"),
                )
            ),
        )
        deployed.expect(0)

    def configure(self, topic: str, config: Mapping[str, str]) -> None:
        """Change settings of a topic."""
        entries = [
            ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET) for name, value in config.items()
        ]
        resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=entries)
        admin = self.admin()
        for altered in admin.incremental_alter_configs([resource]).values():
            altered.result()

    def start_roles(self) -> None:
        """Start one process of each role and return once they have their partitions."""
        self.fleet.start(*ROLES)
        for role in ROLES:
            self.wait_for_members(role)

    def wait_for_members(self, role: str, but: RoleProcess | None = None) -> None:
        """Return once a role's group is at rest, its members being all processes of the role, or all `but` one."""
        what = f"a resting group of all {role}" + (f" but {but}" if but else "")
        wait_until(lambda: self._rests(role, but), what, DEADLINE_S)

    def _rests(self, role: str, but: RoleProcess | None) -> bool:
        admin, group = self.admin(), f"{self.engine.prefix}{role}"
        try:
            found = admin.describe_consumer_groups([group], request_timeout=5)[group].result()
        except KafkaException:
            return False
        wanted = {process.name for process in self.fleet.processes(role) if process is not but}
        return bool(found.state == ConsumerGroupState.STABLE and {m.client_id for m in found.members} == wanted)

    def stop_api(self) -> None:
        """Stop the API server; its objects stay."""
        self.kube.stop()

    def start_api(self) -> None:
        """Start the API server again, on the same port."""
        port = int(self.kube.url.rpartition(":")[2])
        self.kube = self.tenant.kube = start_kube_server(self.kube.directory, port)

    def delete_workflows(self, but: set[str]) -> int:
        """Delete all Workflows, but those of these firings, as their TTL would; return how many there were.

        Nothing may create any meanwhile. Only what the watch has seen is deleted, so that it misses none.
        """
        there = {one["metadata"]["uid"] for one in list_workflows(self.kube, self.tenant.namespace)}
        wait_until(lambda: there <= self.watch.seen.keys(), "the watch's sight of all Workflows", DEADLINE_S)
        path = _WORKFLOWS.format(namespace=self.tenant.namespace)
        selector = f"?labelSelector=headrace.dev%2Ffiring+notin+({'%2C'.join(sorted(but))})" if but else ""
        request_json(self.kube, "DELETE", path + selector)
        left = len(list_workflows(self.kube, self.tenant.namespace))
        return len(there) - left

    def rewind(self, role: str, topic: str) -> int:
        """Set a group without members back to the beginning of a topic, as if its commits were lost; count records."""
        admin, group = self.admin(), f"{self.engine.prefix}{role}"
        places = [TopicPartition(topic, number) for number in range(partition_counts(admin, {topic})[topic])]
        ends = admin.list_offsets({place: OffsetSpec.latest() for place in places})
        records = sum(future.result().offset for future in ends.values())

        def is_rewound() -> bool:
            asked = [ConsumerGroupTopicPartitions(group, [TopicPartition(topic, at.partition, 0) for at in places])]
            try:
                answer = admin.alter_consumer_group_offsets(asked)[group].result()
            except KafkaException:
                # The group has members until the sessions of killed processes have run out.
                return False
            return all(at.error is None for at in answer.topic_partitions)

        wait_until(is_rewound, f"the rewinding of {group}", DEADLINE_S)
        return int(records)


@contextmanager
def world(directory: Path, broker_properties: Mapping[str, str] | None = None) -> Iterator[World]:
    """Start all parts but the roles, and stop everything in the end; logs stay in `directory`."""
    with ExitStack() as closing:
        kafka = EmbeddedKafka(directory, extra_properties={**TEST_PROPERTIES, **(broker_properties or {})})
        kafka.start()
        closing.callback(kafka.stop)
        kube = start_kube_server(directory / "kube")
        made: list[World] = []
        closing.callback(lambda: (made[0].kube if made else kube).stop())
        install_crds(kube)
        gateway = closing.enter_context(_gateway_thread(kube))
        made.append(World(kafka, kube, gateway, directory))
        closing.callback(made[0].fleet.abandon)
        closing.enter_context(made[0].watch)
        yield made[0]


@contextmanager
def _gateway_thread(kube: KubeServer) -> Iterator[KubeGateway]:
    """Run a gateway in an event loop of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="gateway", daemon=True)
    thread.start()

    def call(work: Callable[[], object]) -> None:
        asyncio.run_coroutine_threadsafe(work(), loop).result()  # type: ignore[arg-type]

    gateway = KubeGateway(kube)
    call(gateway.__aenter__)
    try:
        yield gateway
    finally:
        call(gateway.close)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
