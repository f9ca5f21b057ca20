"""`headrace bench` on a cluster that has other things on it: it asks, measures, and leaves nothing behind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from confluent_kafka.admin import AdminClient
from kubernetes.client import CustomObjectsApi

from tests.support.engine import Engine
from tests.support.kube import KubeServer
from tests.support.tenant import Tenant


def made_by_a_bench(engine: Engine, kube: KubeServer, namespace: str) -> list[str]:
    """Whatever is named as a bench names things: topics, triggers, templates and Workflows."""
    topics = AdminClient({"bootstrap.servers": engine.bootstrap_servers}).list_topics(timeout=10).topics
    triggers = [row["name"].partition("/")[2] for row in engine.here("triggers", "--json").expect(0).rows]
    api: Any = CustomObjectsApi(kube.admin)
    objects = [
        item["metadata"]["name"]
        for kind in ("workflows", "workflowtemplates")
        for item in api.list_namespaced_custom_object("argoproj.io", "v1alpha1", namespace, kind)["items"]
    ]
    return [name for name in (*topics, *triggers, *objects) if name.startswith("headrace-bench-")]


def test_without_consent_nothing_is_created(tenant: Tenant) -> None:
    said = tenant.engine.cli("bench", "singles", "--namespace", tenant.namespace)
    said.expect(1)
    assert "--yes" in said.stderr
    assert f"WorkflowTemplate {tenant.namespace}/headrace-bench-" in said.stdout
    assert made_by_a_bench(tenant.engine, tenant.kube, tenant.namespace) == []


def test_it_measures_and_removes_what_it_made(tenant: Tenant, tmp_path: Path) -> None:
    results = tmp_path / "bench.json"
    arguments = ("--namespace", tenant.namespace, "--sets", "20", "--repetitions", "1", "--yes", "--json", str(results))
    said = tenant.engine.cli("bench", *arguments).expect(0)
    written = json.loads(results.read_bytes())
    rows = [result["row"] for result in written["results"]]
    latencies = [row for name in ("single", "pair", "pair-at-once") for row in [f"latency-{name}"] * 2]
    assert rows == ["singles", "pairs", *latencies]
    assert all(row in said.stdout for row in rows)
    assert all(result["ratio"] > 0 for result in written["results"])
    assert written["durability"]["read"]["acks"] == "all"
    assert made_by_a_bench(tenant.engine, tenant.kube, tenant.namespace) == []
