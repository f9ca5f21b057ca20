"""What many Metaflow flows cost: memory of one Headrace, and the time from a Sensor's creation to listening.

Run as `python -m benchmarks.many_flows`. One flow is deployed by the real Metaflow; its Sensor is copied under other
names, each copy waiting for an event of its own. Memory is the proportional set size of `headrace up` and all that it
started, Kafka and the API server apart.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.joined_latency import wait_for
from headrace.edges.kafka.access import KafkaAccess
from headrace.edges.kafka.trigger_feed import TriggerFeed
from headrace.operations.deploy import Confirmations
from headrace.settings import Settings, load
from tests.support.kafka import embedded_kafka
from tests.support.kube import KubeServer, create_namespace, install_crds, start_kube_server
from tests.support.kube_objects import request_json
from tests.support.metaflow_cluster import ObjectStore, argo_workflows, metaflow_environment

NAMESPACE = "flows"
SENSORS = f"/apis/argoproj.io/v1alpha1/namespaces/{NAMESPACE}/sensors"
FLOW = Path(__file__).parents[1] / "tests" / "system" / "flows" / "metaflow" / "two_events_flow.py"
MORE = 20


def descendants(pid: int) -> Iterator[int]:
    """Yield a process and all below it."""
    yield pid
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in children.read_text().split():
            yield from descendants(int(child))


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


def measure(count: int, log: Path | None) -> None:
    """Run the whole and print."""
    with tempfile.TemporaryDirectory() as scratch, embedded_kafka(Path(scratch) / "kafka") as kafka:
        server, store = start_kube_server(), ObjectStore(Path(scratch) / "moto.log")
        try:
            install_crds(server)
            create_namespace(server, NAMESPACE)
            environment = metaflow_environment(store, server, NAMESPACE, Path(scratch))
            argo_workflows(FLOW, {**environment, "EVENT_SUFFIX": "0"}, "create")
            _measure(kafka.bootstrap_servers, server, Path(scratch), count, log)
        finally:
            store.stop()
            server.stop()


def _measure(servers: str, server: KubeServer, scratch: Path, count: int, log: Path | None) -> None:
    environment = {
        **os.environ,
        "HEADRACE_BOOTSTRAP_SERVERS": servers,
        "HEADRACE_REPLICATION": "1",
        "HEADRACE_STATE": str(scratch / "state"),
        "HEADRACE_NAMESPACES": NAMESPACE,
        "HEADRACE_INGRESS_ADDRESS": "127.0.0.1:0",
        "KUBECONFIG": str(server.kubeconfig_path),
    }
    settings = load(environment)
    sensor = request_json(server, "GET", f"{SENSORS}/twoeventsflow")
    for copy in copies(sensor, count - 1, 1):
        request_json(server, "POST", SENSORS, copy)
    output = log.open("wb") if log is not None else subprocess.DEVNULL
    headrace = [sys.executable, "-m", "headrace"]
    up = subprocess.Popen([*headrace, "up"], env=environment, stdout=output, stderr=output)
    try:

        def deployed() -> int:
            said = subprocess.run([*headrace, "triggers", "--json"], env=environment, capture_output=True)
            return len(said.stdout.splitlines())

        began_s = time.perf_counter()
        wait_for(lambda: deployed() >= count, 300, "triggers")
        print(f"{count} Sensors were triggers {time.perf_counter() - began_s:.1f} s after the start")
        ready = [*headrace, "status"]
        wait_for(lambda: subprocess.run(ready, env=environment, capture_output=True).returncode == 0, 60, "roles")
        seconds = [seconds_to_listen(settings, server, copy) for copy in copies(sensor, MORE, count)]
        print(f"from a Sensor's creation to listening: median {statistics.median(seconds):.2f} s", end="")
        print(f", longest of {MORE} {max(seconds):.2f} s")
        sizes = memory_mb(up.pid)
        for name, size in sizes.items():
            print(f"{name:<40} {size:7.1f} MB")
        print(f"{'together':<40} {sum(sizes.values()):7.1f} MB")
    finally:
        up.terminate()
        up.wait(60)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--flows", type=int, default=500)
    parser.add_argument("--log", type=Path, help="where the roles' log goes")
    arguments = parser.parse_args()
    measure(arguments.flows, arguments.log)


if __name__ == "__main__":
    main()
