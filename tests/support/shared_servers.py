"""One Kafka and one API server for all processes of a run: the process that hands the tests out starts them.

With `pytest -n 2` the tests run in processes of their own, each of which would otherwise start its servers.
"""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.support import kafka
from tests.support.kube import KubeServer, install_crds, start_kube_server

Described = dict[str, Any]
"""What a process needs to know of the servers, in types that travel between processes."""


class SharedServers:
    """The servers of a run, which `close` ends."""

    def __init__(self) -> None:
        self._closing = ExitStack()
        self._described: Described | None = None

    def described(self) -> Described:
        """Start the servers, unless they run; return how to reach them."""
        if self._described is None:
            directory = self._closing.enter_context(tempfile.TemporaryDirectory(prefix="headrace-tests-"))
            broker = self._closing.enter_context(kafka.new_kafka(Path(directory) / "kafka"))
            api = start_kube_server()
            self._closing.callback(api.stop)
            install_crds(api)
            self._described = {"kafka": broker.bootstrap_servers, "kube": _describe(api)}
        return self._described

    def close(self) -> None:
        self._closing.close()


def _describe(server: KubeServer) -> Described:
    return {
        "url": server.url,
        "ca_file": str(server.ca_file),
        "admin_token": server.admin_token,
        "user_tokens": dict(server.user_tokens),
        "directory": str(server.directory),
    }


def kube_server(described: Described) -> KubeServer:
    """Return the API server that another process started, and will stop."""
    return KubeServer(
        url=described["url"],
        ca_file=Path(described["ca_file"]),
        admin_token=described["admin_token"],
        user_tokens=described["user_tokens"],
        directory=Path(described["directory"]),
        _stop=lambda: None,
    )
