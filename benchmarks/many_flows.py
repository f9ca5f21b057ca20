"""What many Metaflow flows cost: memory of one Headrace, and the time from a Sensor's creation to listening.

One flow is deployed by the real Metaflow; its Sensor is copied under other
names, each copy waiting for an event of its own. Memory is the proportional set size of `headrace up` and all that it
started, Kafka and the API server apart.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.parts import Parts
from benchmarks.processor_time import descendants
from headrace.bench.children import wait_for
from headrace.bench.figures import Figure, Sample
from headrace.edges.kafka.access import KafkaAccess
from headrace.edges.kafka.clients import admin_client
from headrace.edges.kafka.topics import partition_counts
from headrace.edges.kafka.trigger_feed import TriggerFeed, read_triggers
from headrace.operations.deploy import Confirmations
from headrace.settings import Settings, load
from tests.support.kube import KubeServer, create_namespace
from tests.support.kube_objects import request_json
from tests.support.metaflow_cluster import ObjectStore, argo_workflows, metaflow_environment

NAMESPACE = "flows"
SENSORS = f"/apis/argoproj.io/v1alpha1/namespaces/{NAMESPACE}/sensors"
FLOW = Path(__file__).parents[1] / "tests" / "system" / "flows" / "metaflow" / "two_events_flow.py"
MORE = 20


def memory_mb(pid: int) -> dict[str, float]:
    """Return the proportional set size of each process, in MB by its command line's end."""
    sizes: dict[str, float] = {}
    for one in descendants(pid):
        rollup = Path(f"/proc/{one}/smaps_rollup").read_text()
        words = Path(f"/proc/{one}/cmdline").read_bytes().decode().replace("--if-wanted\0", "").split("\0")
        kilobytes = int(next(line for line in rollup.splitlines() if line.startswith("Pss:")).split()[1])
        name = f"{' '.join(words[-3:-1])} ({one})"
        sizes[name] = kilobytes / 1000
    return sizes


def copies(sensor: dict[str, Any], count: int, first: int) -> Iterator[dict[str, Any]]:
    """Yield copies of a Sensor that differ in name and events."""
    for number in range(first, first + count):
        text = json.dumps({**sensor, "metadata": {k: sensor["metadata"][k] for k in ("labels", "namespace")}})
        copy = json.loads(text.replace("_event-0", f"_event-{number}"))
        copy["metadata"]["name"] = f"flow-{number}"
        yield copy


def seconds_to_listen(settings: Settings, server: KubeServer, sensor: dict[str, Any]) -> float:
    """Create a Sensor; return the seconds until every partition's router has confirmed its trigger."""
    feed = TriggerFeed(KafkaAccess(settings))
    feed.read_to_end()
    try:
        with Confirmations(settings) as confirmations:
            began_s = time.perf_counter()
            request_json(server, "POST", SENSORS, sensor)
            name = f"{NAMESPACE}/{sensor['metadata']['name']}"
            while True:
                found = [change for change in feed.poll(0.02) if change.name == name]
                if found:
                    break
            record = found[0].record
            assert record is not None, found[0].refused
            confirmations.wait({event.name for event in record.spec.events}, found[0].offset, 30)
            return time.perf_counter() - began_s
    finally:
        feed.close()


def measure(parts: Parts) -> Sequence[Figure]:
    """Measure the row."""
    store, server = ObjectStore(parts.scratch / "moto.log"), parts.kube
    try:
        create_namespace(server, NAMESPACE)
        environment = metaflow_environment(store, server, NAMESPACE, parts.scratch)
        argo_workflows(FLOW, {**environment, "EVENT_SUFFIX": "0"}, "create")
        return _measure(parts, parts.size(500, 100))
    finally:
        store.stop()


def _measure(parts: Parts, count: int) -> list[Figure]:
    environment = {
        **os.environ,
        "HEADRACE_BOOTSTRAP_SERVERS": parts.kafka,
        "HEADRACE_TOPIC_PREFIX": "flows.",
        "HEADRACE_REPLICATION": "1",
        "HEADRACE_STATE": str(parts.scratch / "flows"),
        "HEADRACE_NAMESPACES": NAMESPACE,
        "HEADRACE_INGRESS_ADDRESS": "127.0.0.1:0",
        "KUBECONFIG": str(parts.kube.kubeconfig_path),
    }
    settings = load(environment)
    sensor = request_json(parts.kube, "GET", f"{SENSORS}/twoeventsflow")
    for copy in copies(sensor, count - 1, 1):
        request_json(parts.kube, "POST", SENSORS, copy)
    headrace = [sys.executable, "-m", "headrace"]
    with (parts.scratch / "flows.log").open("wb") as log:
        up = subprocess.Popen([*headrace, "up"], env=environment, stdout=log, stderr=log)
    try:
        began_s = time.monotonic()
        wait_for(lambda: topic_is_there(settings) and len(read_triggers(settings)) >= count, 300, "the last trigger")
        all_s = time.monotonic() - began_s
        ready = [*headrace, "status"]
        wait_for(lambda: subprocess.run(ready, env=environment, capture_output=True).returncode == 0, 60, "readiness")
        seconds = [seconds_to_listen(settings, parts.kube, copy) for copy in copies(sensor, MORE, count)]
        sizes = memory_mb(up.pid)
    finally:
        up.terminate()
        up.wait(60)
    one_more = tuple(Sample(s) for s in seconds)
    return [
        Figure("many-flows", f"from the start to {count} Sensors as triggers", "s", (Sample(all_s),)),
        Figure("many-flows", "from one more Sensor to listening routers", "s", one_more),
        Figure("many-flows", "memory of all roles (PSS)", "MB", (Sample(sum(sizes.values())),), facts=sizes),
    ]


def topic_is_there(settings: Settings) -> bool:
    """Say whether the triggers' topic exists already."""
    return settings.topics.triggers in partition_counts(admin_client(settings), {settings.topics.triggers})
