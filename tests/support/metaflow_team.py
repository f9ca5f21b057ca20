"""A team that uses Metaflow: a namespace with flows in it, and what the team does with Metaflow's own programs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.support.kube_objects import request_json
from tests.support.metaflow_cluster import TIMEOUT_S, ObjectStore, argo_workflows, metaflow_environment
from tests.support.tenant import Tenant
from tests.support.workflow_steps import Steps

FLOWS = Path(__file__).parents[1] / "system" / "flows" / "metaflow"
_PUBLISH = """
import json, sys
from metaflow.integrations import ArgoEvent
name, method, arguments = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
print(getattr(ArgoEvent(name=name), method)(**arguments))
"""
_READ = """
import json, sys
from metaflow import Run, namespace
namespace(None)
print(json.dumps(Run(sys.argv[1]).data.seen))
"""


class Team:
    """A tenant whose triggers come from flows."""

    def __init__(self, tenant: Tenant, store: ObjectStore, home: Path) -> None:
        self.tenant = tenant
        self.home = home
        self.environment = metaflow_environment(store, tenant.kube, tenant.namespace, home)
        self.environment["EVENT_SUFFIX"] = tenant.suffix
        if address := tenant.engine.environment.get("HEADRACE_INGRESS_ADDRESS"):
            self.environment["METAFLOW_ARGO_EVENTS_WEBHOOK_URL"] = f"http://{address}/"

    def create(self, flow: str, *arguments: str, **environment: str) -> str:
        """Deploy a flow and return what Metaflow said."""
        return argo_workflows(FLOWS / flow, {**self.environment, **environment}, "create", *arguments)

    def delete(self, flow: str) -> None:
        argo_workflows(FLOWS / flow, self.environment, "delete")

    def triggers(self) -> dict[str, dict[str, Any]]:
        """The namespace's triggers, and refused Sensors, by their names in it."""
        rows = self.tenant.engine.here("triggers", "--json").expect(0).rows
        return {r["name"].partition("/")[2]: r for r in rows if r["name"].startswith(f"{self.tenant.namespace}/")}

    def wait_for_trigger(self, name: str, generation: int = 1) -> dict[str, Any]:
        """Return the trigger once routers listen for it in this generation."""
        self.tenant.engine.wait_until(
            lambda: self.triggers().get(name, {}).get("generation") == generation, f"{name}, generation {generation}"
        )
        record = self.triggers()[name]
        self.tenant.wait_for_routers(*record["starts"])
        return record

    def wait_for_triggers(self, count: int) -> dict[str, dict[str, Any]]:
        """Return the namespace's triggers once they are so many and routers listen for them."""
        self.tenant.engine.wait_until(lambda: len(self.triggers()) == count, f"{count} triggers")
        return {name: self.wait_for_trigger(name) for name in self.triggers()}

    def deploy(self, flow: str, **environment: str) -> str:
        """Deploy a flow, and return its template's name once routers listen for what triggers it."""
        before = self.triggers()
        self.create(flow, **environment)
        (name,) = set(self.wait_for_triggers(len(before) + 1)) - set(before)
        template: str = self.triggers()[name]["spec"]["run"]["workflowTemplate"]
        return template

    def sensor(self, name: str) -> dict[str, Any]:
        return self._read("sensors", name)

    def publish(
        self, name: str, method: str = "publish", environment: dict[str, str] | None = None, **arguments: Any
    ) -> str:
        """Publish by `metaflow.integrations.ArgoEvent` in a program of its own; return the id, or `None`, as text."""
        done = subprocess.run(
            [sys.executable, "-c", _PUBLISH, name, method, json.dumps(arguments)],
            env={**self.environment, **(environment or {})},
            cwd=self.home,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def run_steps(self, workflow: dict[str, Any]) -> str:
        """Run the steps of a Workflow to their end, and return the run's name for Metaflow's client."""
        template = self._read("workflowtemplates", workflow["spec"]["workflowTemplateRef"]["name"])
        name = workflow["metadata"]["name"]
        # The keys of the datastore are the pod's; the suffix keeps tests apart.
        pod = {k: v for k, v in self.environment.items() if k.startswith(("AWS_", "EVENT_SUFFIX"))}
        Steps(workflow, template, {**pod, **self._metadata}, self.home / name).run()
        return f"{template['spec']['workflowMetadata']['annotations']['metaflow/flow_name']}/argo-{name}"

    def seen(self, run: str) -> Any:
        """Read back by Metaflow's client what a run's steps kept in `self.seen`."""
        done = subprocess.run(
            [sys.executable, "-c", _READ, run],
            env={**self.environment, **self._metadata},
            cwd=self.home,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    @property
    def _metadata(self) -> dict[str, str]:
        # What a metadata service is elsewhere: one place that all containers and the client know.
        return {"METAFLOW_DATASTORE_SYSROOT_LOCAL": str(self.home / "metadata")}

    def _read(self, plural: str, name: str) -> dict[str, Any]:
        path = f"/apis/argoproj.io/v1alpha1/namespaces/{self.tenant.namespace}/{plural}/{name}"
        return request_json(self.tenant.kube, "GET", path)
