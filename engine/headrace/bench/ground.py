"""Ground: what a bench makes on a cluster, all of it under names that nobody else has, and its removal."""

from __future__ import annotations

import os
import uuid
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml
from confluent_kafka import KafkaException

from headrace.bench.watch import CreatedWorkflows
from headrace.edges.kafka.clients import REQUEST_TIMEOUT_S, admin_client
from headrace.edges.kafka.trigger_registry import write_triggers
from headrace.edges.kube.credentials import in_cluster
from headrace.edges.trigger_file import load_triggers
from headrace.model.definition import Definition
from headrace.operations.deploy import deploy
from headrace.settings import Settings
from headrace.stages.route import compile_trigger

SINGLE, PAIR, BARE = "single", "pair", "bare"
_GROUP = ("argoproj.io", "v1alpha1")


class Ground:
    """One template, two triggers, three event topics and the hops' topics; gone when the block is left."""

    def __init__(self, settings: Settings, namespace: str) -> None:
        """Prepare; nothing is made before the block is entered."""
        self.settings = settings
        self.namespace = namespace
        self.name = f"headrace-bench-{uuid.uuid4().hex[:8]}"
        self._definitions: dict[str, Definition] = {}
        self._made_topics: set[str] = set()

    def event(self, word: str) -> str:
        """Return the name of one of the event topics: `single`, `left` or `right`."""
        return f"{self.name}-{word}"

    def events(self, kind: str) -> list[str]:
        """Return the event topics of the trigger `kind`."""
        return [self.event("single")] if kind == SINGLE else [self.event("left"), self.event("right")]

    def what_it_makes(self) -> list[str]:
        """Say what will be made, for a person to agree to."""
        return [
            f"WorkflowTemplate {self.namespace}/{self.name}, which suspends for a second and starts no pod",
            f"triggers {self.namespace}/{self.name}-{SINGLE} and -{PAIR}",
            f"topics {self.name}-single, -left, -right and -hop-…, with the brokers' own defaults",
            f"Workflows in the namespace {self.namespace}, labelled {self._selector}",
        ]

    def __enter__(self) -> Self:
        try:
            self._api().create_namespaced_custom_object(*_GROUP, self.namespace, "workflowtemplates", self._template())
            records = deploy(
                self.settings,
                load_triggers("---\n".join(map(yaml.safe_dump, self._triggers())), "headrace bench", Path.cwd()),
                self.namespace,
            )
        except BaseException:
            self.remove()
            raise
        for kind, record in zip((SINGLE, PAIR), records, strict=True):
            compiled = compile_trigger(record, self.settings.window_ms, self.settings.lateness_ms)
            self._definitions[kind] = compiled.definition
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.remove()

    def bare_definition(self, kind: str) -> Definition:
        """Return the definition of a trigger under a name that no router knows, for bare bodies."""
        from dataclasses import replace

        return replace(self._definitions[kind], trigger=f"{self.namespace}/{self.name}-{BARE}")

    def watch(self) -> CreatedWorkflows:
        """Watch every Workflow of this bench."""
        return CreatedWorkflows(self.namespace, self._selector)

    def make_topics(self, names: list[str]) -> None:
        """Make further topics of one partition, which go with the rest."""
        from confluent_kafka.admin import NewTopic

        admin = admin_client(self.settings)
        for future in admin.create_topics([NewTopic(name, 1, -1) for name in names]).values():
            future.result(REQUEST_TIMEOUT_S)
        self._made_topics.update(names)

    def remove(self) -> None:
        """Remove everything; what was never made is no error, and what fails is said by the broker or API server."""
        from kubernetes.client import ApiException

        with suppress(KafkaException):
            write_triggers(self.settings, {f"{self.namespace}/{self.name}-{kind}": None for kind in (SINGLE, PAIR)})
        api = self._api()
        with suppress(ApiException):
            api.delete_collection_namespaced_custom_object(
                *_GROUP, self.namespace, "workflows", label_selector=self._selector
            )
        with suppress(ApiException):
            api.delete_namespaced_custom_object(*_GROUP, self.namespace, "workflowtemplates", self.name)
        topics = [*map(self.event, ("single", "left", "right")), *self._made_topics]
        # Held until the answers are there: a client that is let go of asks nothing.
        admin = admin_client(self.settings)
        for future in admin.delete_topics(topics).values():
            with suppress(KafkaException):
                future.result(REQUEST_TIMEOUT_S)

    @property
    def _selector(self) -> str:
        names = ",".join(f"{self.name}-{kind}" for kind in (SINGLE, PAIR, BARE))
        return f"headrace.dev/trigger in ({names})"

    def _api(self) -> Any:
        # Imported late, and told where the kubeconfig is: the package looks once, when it is first imported.
        from kubernetes.client import ApiClient, Configuration, CustomObjectsApi
        from kubernetes.config import load_incluster_config, load_kube_config

        configuration, files = Configuration(), os.environ.get("KUBECONFIG")
        if in_cluster() and not files:
            load_incluster_config(configuration)
        else:
            load_kube_config(files, client_configuration=configuration)
        return CustomObjectsApi(ApiClient(configuration))

    def _template(self) -> dict[str, Any]:
        return {
            "apiVersion": "argoproj.io/v1alpha1",
            "kind": "WorkflowTemplate",
            "metadata": {"name": self.name, "namespace": self.namespace},
            "spec": {
                "entrypoint": "main",
                "arguments": {"parameters": [{"name": "set"}]},
                "templates": [{"name": "main", "suspend": {"duration": "1"}}],
            },
        }

    def _triggers(self) -> list[dict[str, Any]]:
        left = {"name": self.event("left"), "key": "event.set", "parameters": {"set": "set"}}
        specs: dict[str, list[Any]] = {
            SINGLE: [{"name": self.event("single"), "parameters": {"set": "set"}}],
            PAIR: [left, {"name": self.event("right"), "key": "event.set"}],
        }
        return [
            {
                "apiVersion": "headrace.dev/v1",
                "kind": "Trigger",
                "metadata": {"name": f"{self.name}-{kind}", "namespace": self.namespace},
                "spec": {"events": events, "run": {"workflowTemplate": self.name}},
            }
            for kind, events in specs.items()
        ]
