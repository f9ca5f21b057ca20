"""The joined path's latency, from publishing the second event of a pair to the Workflow's existence.

Run as `python -m benchmarks.joined_latency`. Roles, Kafka and API server are real processes on this machine. The
baseline, in the same run: bare Kafka hops and one bare POST of the same size, by the same clients.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

from confluent_kafka import Consumer, Producer
from kubernetes import watch
from kubernetes.client import CustomObjectsApi
from urllib3.exceptions import HTTPError

from headrace.edges.kube.api import KubeApi
from headrace.model.firing import Firing
from headrace.model.frame import Frame, decode
from headrace.operations.listing import follow
from headrace.settings import load
from tests.support.kafka import create_topics, embedded_kafka
from tests.support.kube import KubeServer, create_namespace, create_workflow_template, install_crds, start_kube_server

NAMESPACE = "latency"
TRIGGER = """
apiVersion: headrace.dev/v1
kind: Trigger
metadata: {name: pair, namespace: latency}
spec:
  events:
    - {name: left, key: event.pair, parameters: {pair: pair}}
    - {name: right, key: event.pair}
  run: {workflowTemplate: pair}
"""


def percentile(values: list[float], share: float) -> float:
    """Return the value below which `share` of the values lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


class CreatedWorkflows:
    """The moment at which each Workflow was first seen, by its parameter `pair`."""

    def __init__(self, server: KubeServer) -> None:
        self.seen: dict[str, float] = {}
        self._server = server
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def _follow(self) -> None:
        with self._server.client(self._server.admin_token) as client:
            try:
                self._follow_with(CustomObjectsApi(client))
            except HTTPError:
                # The server's end closes the watch, too.
                if not self._stop.is_set():
                    raise

    def stop(self) -> None:
        """Take no more note; the watch itself ends with the server."""
        self._stop.set()

    def _follow_with(self, api: CustomObjectsApi) -> None:
        watcher = watch.Watch()
        while not self._stop.is_set():
            stream = watcher.stream(
                api.list_namespaced_custom_object,
                "argoproj.io",
                "v1alpha1",
                NAMESPACE,
                "workflows",
                timeout_seconds=300,
            )
            for event in stream:
                now_s = time.perf_counter()
                for parameter in event["object"]["spec"]["arguments"]["parameters"]:
                    if parameter["name"] == "pair":
                        self.seen.setdefault(parameter["value"], now_s)
                if self._stop.is_set():
                    break


def publish_pairs(servers: str, count: int, rate: float, key: str) -> dict[str, float]:
    """Publish pairs at `rate` a second; return when each pair's second event was published."""
    producer = Producer({"bootstrap.servers": servers, "linger.ms": 0, "acks": "all"})
    producer.list_topics(timeout=10)
    sent: dict[str, float] = {}
    began_s = time.perf_counter()
    for index in range(count):
        time.sleep(max(0.0, began_s + index / rate - time.perf_counter()))
        pair = f"{key}-{index}"
        value = json.dumps({"pair": pair}).encode()
        producer.produce("left", value)
        producer.poll(0)
        sent[pair] = time.perf_counter()
        producer.produce("right", value)
        producer.poll(0)
    producer.flush(10)
    return sent


def hop_seconds(servers: str, count: int, rate: float) -> list[float]:
    """Measure one bare hop, produce to consume, `count` times."""
    topic, seconds = f"hop-{uuid.uuid4().hex[:8]}", []
    create_topics({"bootstrap.servers": servers}, {topic: 1})
    producer = Producer({"bootstrap.servers": servers, "linger.ms": 0, "acks": "all"})
    producer.produce(topic, b"first")
    producer.flush(10)
    consumer = Consumer(
        {"bootstrap.servers": servers, "group.id": topic, "auto.offset.reset": "earliest", "fetch.wait.max.ms": 100}
    )
    consumer.subscribe([topic])
    while consumer.poll(1) is None:
        pass
    for _ in range(count):
        time.sleep(1 / rate)
        began_s = time.perf_counter()
        producer.produce(topic, b"x" * 300)
        producer.poll(0)
        while consumer.poll(1) is None:
            pass
        seconds.append(time.perf_counter() - began_s)
    producer.flush(10)
    consumer.close()
    return seconds


def stage_seconds(servers: str) -> dict[str, list[float]]:
    """Measure the way by the time stamps of the records on it (milliseconds, so a whole one off at most)."""
    settings = load({"HEADRACE_BOOTSTRAP_SERVERS": servers})
    stamps: dict[str, dict[str, float]] = {"event": {}, "frame": {}, "firing": {}, "run": {}}
    names = settings.topics
    for message in follow(settings, names.matches, follow=False):
        frame = decode(message.value() or b"")
        if isinstance(frame, Frame):
            for match in frame.matches:
                if match.event.name == "right":
                    stamps["event"][match.key] = match.event.time_ms / 1000
                    stamps["frame"][match.key] = message.timestamp()[1] / 1000
    keys = {}
    for message in follow(settings, names.firings, follow=False):
        firing = Firing.decode(message.value() or b"")
        keys[firing.id] = firing.key
        stamps["firing"][firing.key] = message.timestamp()[1] / 1000
    for message in follow(settings, names.runs, follow=False):
        stamps["run"][keys[(message.key() or b"").decode()]] = message.timestamp()[1] / 1000
    steps = list(stamps)
    return {
        f"{a} to {b}": [stamps[b][key] - stamps[a][key] for key in stamps["run"] if '"pair-' in key]
        for a, b in pairwise(steps)
    }


async def post_seconds(kubeconfig: Path, count: int, rate: float) -> list[float]:
    """Measure one bare creation, `count` times."""
    os.environ["KUBECONFIG"] = str(kubeconfig)
    api, seconds = await KubeApi.connect(), []
    await api.warm(1)
    for index in range(count):
        await asyncio.sleep(1 / rate)
        body = {
            "apiVersion": "argoproj.io/v1alpha1",
            "kind": "Workflow",
            "metadata": {"name": f"bare-{index}", "namespace": NAMESPACE},
            "spec": {"arguments": {"parameters": [{"name": "bare", "value": "1"}]}},
        }
        began_s = time.perf_counter()
        reply = await api.create_workflow(NAMESPACE, json.dumps(body).encode())
        assert reply.status == 201, reply
        seconds.append(time.perf_counter() - began_s)
    await api.close()
    return seconds


def wait_for(condition: Callable[[], bool], timeout_s: float, what: str) -> None:
    """Wait until `condition` holds."""
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"no {what} within {timeout_s:.0f} s")
        time.sleep(0.05)


def measure(pairs: int, rate: float, log: Path | None) -> dict[str, float]:
    """Run the whole and return milliseconds by name."""
    with tempfile.TemporaryDirectory() as scratch, embedded_kafka(Path(scratch) / "kafka") as kafka:
        server = start_kube_server()
        try:
            install_crds(server)
            create_namespace(server, NAMESPACE)
            create_workflow_template(server, NAMESPACE, "pair", {"pair": None})
            return _measure(kafka.bootstrap_servers, server, Path(scratch), pairs, rate, log)
        finally:
            server.stop()


def _measure(
    servers: str, server: KubeServer, scratch: Path, pairs: int, rate: float, log: Path | None
) -> dict[str, float]:
    environment = {
        **os.environ,
        "HEADRACE_BOOTSTRAP_SERVERS": servers,
        "HEADRACE_REPLICATION": "1",
        "HEADRACE_STATE": str(scratch / "state"),
        "HEADRACE_NAMESPACES": NAMESPACE,
        "HEADRACE_INGRESS_ADDRESS": "127.0.0.1:0",
        "KUBECONFIG": str(server.kubeconfig_path),
    }
    headrace = [sys.executable, "-m", "headrace"]
    output = log.open("wb") if log is not None else subprocess.DEVNULL
    up = subprocess.Popen([*headrace, "up"], env=environment, stdout=output, stderr=output)
    try:
        wait_for(
            lambda: subprocess.run([*headrace, "status"], env=environment, capture_output=True).returncode == 0,
            60,
            "roles",
        )
        subprocess.run([*headrace, "deploy", "-"], input=TRIGGER.encode(), env=environment, check=True)
        created = CreatedWorkflows(server)
        warm = publish_pairs(servers, 200, rate, "warm")
        wait_for(lambda: warm.keys() <= created.seen.keys(), 60, "warm Workflows")
        sent = publish_pairs(servers, pairs, rate, "pair")
        wait_for(lambda: sent.keys() <= created.seen.keys(), 60, "Workflows")
    finally:
        up.terminate()
        up.wait(60)
    for name, seconds in stage_seconds(servers).items():
        print(f"{name:<24} p50 {1000 * statistics.median(seconds):.1f}  p99 {1000 * percentile(seconds, 0.99):.1f} ms")
    joined = [1000 * (created.seen[pair] - at_s) for pair, at_s in sent.items()]
    hops = [1000 * seconds for seconds in hop_seconds(servers, 300, 100)]
    posts = [1000 * seconds for seconds in asyncio.run(post_seconds(server.kubeconfig_path, 300, 100))]
    baseline = 3 * statistics.median(hops) + statistics.median(posts)
    p50, p99 = percentile(joined, 0.5), percentile(joined, 0.99)
    created.stop()
    return {
        "pairs": pairs,
        "rate_per_s": rate,
        "joined_p50_ms": p50,
        "joined_p99_ms": p99,
        "joined_max_ms": max(joined),
        "hop_p50_ms": statistics.median(hops),
        "post_p50_ms": statistics.median(posts),
        "baseline_p50_ms": baseline,
        "p50_to_baseline": p50 / baseline,
        "p99_to_p50": p99 / p50,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=600)
    parser.add_argument("--rate", type=float, default=20.0, help="pairs a second")
    parser.add_argument("--log", type=Path, help="where the roles' log goes")
    arguments = parser.parse_args()
    for name, value in measure(arguments.pairs, arguments.rate, arguments.log).items():
        print(f"{name:<18} {value:.2f}")


if __name__ == "__main__":
    main()
