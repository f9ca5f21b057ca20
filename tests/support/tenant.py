"""A tenant of an engine: a test's own namespace, events and triggers, and what Kafka and Kubernetes hold of them."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import yaml
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from tests.support.engine import Engine, Row, Said
from tests.support.kafka import DEADLINE_S, create_topics
from tests.support.kube import KubeObject, KubeServer, create_namespace, create_workflow_template, list_workflows

Headers = list[tuple[str, bytes]]
Place = tuple[str, int]
"""A topic and one of its partitions."""


@dataclass(frozen=True)
class Bare:
    """A record as an existing pipeline produces it."""

    event: str
    value: bytes | None
    headers: Headers | None = None


class Tenant:
    """Uses an engine that may have other tenants; nothing that it is asked for concerns those."""

    def __init__(self, engine: Engine, kube: KubeServer, client_properties: Mapping[str, str]) -> None:
        self.engine = engine
        self.kube = kube
        self.client = dict(client_properties)
        self.suffix = uuid.uuid4().hex[:8]
        self.namespace = f"tenant-{self.suffix}"
        create_namespace(kube, self.namespace)

    def _admin(self) -> AdminClient:
        """Return a new client: librdkafka's get no answer about a group any more once their only broker was restarted.

        Keep it until its answers have come; they do not come once it is gone.
        """
        return AdminClient({**self.client})

    def event(self, word: str) -> str:
        """Return an event's name that no other tenant has."""
        return f"{word}-{self.suffix}"

    def create_topics(self, partitions: Mapping[str, int], **config: str) -> None:
        create_topics(self.client, partitions, **config)

    def template(self, name: str, parameters: Mapping[str, str | None]) -> None:
        create_workflow_template(self.kube, self.namespace, name, parameters)

    def trigger(self, name: str, events: list[Any], run: str | Mapping[str, Any], **spec: Any) -> str:
        """Write a trigger as YAML; `run` may be the name of a WorkflowTemplate alone."""
        target = {"workflowTemplate": run} if isinstance(run, str) else dict(run)
        return yaml.safe_dump(
            {
                "apiVersion": "headrace.dev/v1",
                "kind": "Trigger",
                "metadata": {"name": name, "namespace": self.namespace},
                "spec": {"events": events, "run": target, **spec},
            },
            sort_keys=False,
        )

    def full(self, trigger: str) -> str:
        return f"{self.namespace}/{trigger}"

    def deploy(self, *triggers: str) -> Said:
        """Deploy triggers through the command line; what is published afterwards is not missed."""
        return self.engine.here("deploy", "-", stdin="---\n".join(triggers)).expect(0)

    def produce(self, records: Iterable[Bare]) -> None:
        """Produce records in this order, and return once the broker has acknowledged each."""
        refusals: list[KafkaError] = []
        producer = Producer({**self.client, "message.max.bytes": 4_000_000, "linger.ms": 1, "log_level": 2})
        for record in records:
            producer.produce(
                record.event,
                record.value,
                headers=list(record.headers or []),
                on_delivery=lambda error, _: refusals.append(error) if error else None,
            )
            producer.poll(0)
        assert producer.flush(DEADLINE_S) == 0
        assert not refusals, refusals[0]

    def workflows(self) -> list[KubeObject]:
        return list_workflows(self.kube, self.namespace)

    def wait_for_workflows(self, count: int) -> list[KubeObject]:
        """Return the namespace's Workflows once they are so many."""
        self.engine.wait_until(lambda: len(self.workflows()) >= count, f"{count} Workflows in {self.namespace}")
        return self.workflows()

    def runs(self, trigger: str) -> list[Row]:
        """List the runs of one trigger through the command line."""
        return self.engine.here("runs", "--trigger", self.full(trigger), "--json").expect(0).rows

    def wait_for_state(self, trigger: str, state: str, count: int = 1) -> None:
        """Return once so many runs of a trigger have reached this state, as their records tell."""

        def is_so() -> bool:
            return sum((t, s) == (trigger, state) for t, _, s in self.run_records()) >= count

        self.engine.wait_until(is_so, f"{count} runs of {trigger} that are {state}")

    def dead_letters(self) -> list[Row]:
        """List the dead letters that concern this tenant through the command line."""
        rows = self.engine.here("deadletters", "list", "--json").expect(0).rows
        return [row for row in rows if row["topic"].endswith(self.suffix)]

    def run_records(self) -> list[tuple[str, str, str]]:
        """Return every record of the runs topic that is this tenant's: trigger, firing and state."""
        records = [json.loads(value) for value in self._read_all(f"{self.engine.prefix}runs")]
        own = [record for record in records if record["trigger"].startswith(f"{self.namespace}/")]
        return [(record["trigger"].partition("/")[2], record["firing"], record["state"]) for record in own]

    def _read_all(self, topic: str) -> list[bytes]:
        ends = self._ends([topic])
        reader = Consumer({**self.client, "group.id": f"{self.suffix}-reader", "enable.auto.commit": False})
        try:
            left = {partition: end for (_, partition), end in ends.items() if end > 0}
            reader.assign([TopicPartition(topic, partition, 0) for partition in left])
            values: list[bytes] = []
            deadline_s = time.monotonic() + DEADLINE_S
            while left:
                assert time.monotonic() < deadline_s, f"{topic} cannot be read to its end"
                values.extend(m.value() or b"" for m in reader.consume(1000, 0.1) if m.error() is None)
                for at in reader.position([TopicPartition(topic, partition) for partition in left]):
                    if at.offset >= left[at.partition]:
                        del left[at.partition]
            return [value for value in values if value]
        finally:
            reader.close()

    def settle(self, *events: str, deadline_s: float = DEADLINE_S) -> None:
        """Return once everything in these topics, and all that it led to, has been handled by every role.

        The order matters: a role commits only what it has handed on, so what lies in the next topic when the role
        before has caught up is all that will come.
        """
        prefix = self.engine.prefix
        for role, topics in (
            ("route", list(events)),
            ("join", [f"{prefix}matches"]),
            ("submit", [f"{prefix}firings"]),
        ):
            ends = self._ends(topics)
            self.engine.wait_until(
                lambda group=f"{prefix}{role}", ends=ends: self._has_committed(group, ends),  # type: ignore[misc]
                f"the role {role}'s end of its work on {topics}",
                deadline_s,
            )

    def wait_for_routers(self, *events: str) -> None:
        """Return once the router of each of these topics' partitions routes by what is deployed now."""
        prefix = self.engine.prefix
        ((_, deployed),) = self._ends([f"{prefix}triggers"]).items()
        wanted = set(self._ends(list(events)))

        def heard() -> bool:
            said = [json.loads(value) for value in self._read_all(f"{prefix}progress")]
            reports = [report for report in said if report["kind"] == "router" and report["applied"] >= deployed - 1]
            owned = [place for report in reports for place in report["caught_up"] + report["routed_ms"]]
            return wanted <= {(topic, partition) for topic, partition, *_ in owned}

        self.engine.wait_until(heard, f"routers of {', '.join(events)} that know what is deployed")

    def _ends(self, topics: list[str]) -> dict[Place, int]:
        admin = self._admin()
        metadata = admin.list_topics(timeout=DEADLINE_S).topics
        asked = {TopicPartition(t, p): OffsetSpec.latest() for t in topics for p in metadata[t].partitions}
        found = admin.list_offsets(asked).items()
        return {(at.topic, at.partition): future.result().offset for at, future in found}

    def _has_committed(self, group: str, ends: Mapping[Place, int]) -> bool:
        # The admin client's request for this can end the process: docs/decisions/0013.
        reader = Consumer({**self.client, "group.id": group, "enable.auto.commit": False})
        try:
            found = reader.committed([TopicPartition(*place) for place in ends], timeout=DEADLINE_S)
        finally:
            reader.close()
        # An empty partition has no committed offset, and needs none.
        return all(max(at.offset, 0) >= ends[(at.topic, at.partition)] for at in found)


def parameters_of(workflow: KubeObject) -> dict[str, str]:
    """Return a Workflow's parameters by name."""
    return {p["name"]: p["value"] for p in workflow["spec"]["arguments"]["parameters"]}
