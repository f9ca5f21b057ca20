"""Deploys flows with the real Metaflow: its own command line, an S3 by moto, and the tests' API server."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from headrace.edges.loopback_port import free_port
from tests.support.kube import KubeServer

BUCKET = "flows"
TIMEOUT_S = 120.0
_KEYS = {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any", "AWS_DEFAULT_REGION": "us-east-1"}


class ObjectStore:
    """An S3 of this machine's own, as Metaflow's datastore."""

    def __init__(self, log: Path) -> None:
        """Start it; `stop` ends it."""
        self.url = f"http://127.0.0.1:{(port := free_port())}"
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        with log.open("wb") as output:
            self._process = subprocess.Popen(command, stdout=output, stderr=output, env={**os.environ, **_KEYS})
        self._create_bucket()

    def _create_bucket(self) -> None:
        client = boto3.client(
            "s3", endpoint_url=self.url, aws_access_key_id="any", aws_secret_access_key="any", region_name="us-east-1"
        )
        deadline_s = time.monotonic() + TIMEOUT_S
        while True:
            try:
                client.create_bucket(Bucket=BUCKET)
                return
            except (BotoCoreError, ClientError):
                assert self._process.poll() is None, "moto's server ended"
                assert time.monotonic() < deadline_s, f"moto's server did not answer within {TIMEOUT_S:g} s"

    def stop(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait(30)


def metaflow_environment(store: ObjectStore, server: KubeServer, namespace: str, home: Path) -> dict[str, str]:
    """What a team that uses Metaflow with Argo Workflows has in its configuration."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("METAFLOW_", "HEADRACE_"))}
    return {
        **inherited,
        **_KEYS,
        "HOME": str(home),
        "USER": "tester",
        "METAFLOW_USER": "tester",
        "KUBECONFIG": str(server.kubeconfig_path),
        "AWS_ENDPOINT_URL_S3": store.url,
        "METAFLOW_S3_ENDPOINT_URL": store.url,
        "METAFLOW_DEFAULT_DATASTORE": "s3",
        "METAFLOW_DATASTORE_SYSROOT_S3": f"s3://{BUCKET}/metaflow",
        "METAFLOW_DATATOOLS_S3ROOT": f"s3://{BUCKET}/data",
        "METAFLOW_KUBERNETES_NAMESPACE": namespace,
        "METAFLOW_ARGO_EVENTS_SERVICE_ACCOUNT": "argo-events",
        "METAFLOW_ARGO_EVENTS_EVENT": "metaflow-event",
        "METAFLOW_ARGO_EVENTS_EVENT_SOURCE": "metaflow-webhook",
        "METAFLOW_ARGO_EVENTS_EVENT_BUS": "default",
        "METAFLOW_ARGO_EVENTS_SENSOR_NAMESPACE": namespace,
    }


def argo_workflows(flow: Path, environment: Mapping[str, str], *arguments: str) -> str:
    """Run `python flow.py argo-workflows …` and return what it said; it must succeed."""
    command = [sys.executable, str(flow), "argo-workflows", *arguments]
    done = subprocess.run(
        command, cwd=flow.parent, env=dict(environment), capture_output=True, text=True, timeout=TIMEOUT_S
    )
    assert done.returncode == 0, f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr
