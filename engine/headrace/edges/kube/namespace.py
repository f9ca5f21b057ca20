"""The namespace of a trigger that names none: the kubeconfig context's, the pod's, else `default`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml

_IN_CLUSTER = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


def default_namespace() -> str:
    """Read the namespace, without loading credentials: commands that only speak to Kafka need none."""
    files = [Path(name) for name in os.environ.get("KUBECONFIG", "").split(os.pathsep) if name]
    for file in files or [Path.home() / ".kube" / "config"]:
        namespace = _of_kubeconfig(file)
        if namespace is not None:
            return namespace
    if _IN_CLUSTER.exists():
        return _IN_CLUSTER.read_text().strip()
    return "default"


def _of_kubeconfig(file: Path) -> str | None:
    try:
        config: Any = yaml.safe_load(file.read_text())
        current = config["current-context"]
        context = next(entry["context"] for entry in config["contexts"] if entry["name"] == current)
    except (OSError, yaml.YAMLError, KeyError, TypeError, StopIteration):
        return None
    return str(context.get("namespace") or "default")
