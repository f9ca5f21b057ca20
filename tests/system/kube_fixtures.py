"""Fixtures that give tests a real Kubernetes API server with Argo's kinds defined."""

from collections.abc import Iterator
from uuid import uuid4

import pytest

from tests.support.kube import KubeServer, create_namespace, install_crds, start_kube_server
from tests.support.shared_servers import kube_server


@pytest.fixture(scope="session")
def kube(request: pytest.FixtureRequest) -> Iterator[KubeServer]:
    """One API server for the whole test run, with the kinds of argo-crds.yaml."""
    shared = getattr(request.config, "workerinput", {}).get("servers")
    if shared:
        yield kube_server(shared["kube"])
        return
    server = start_kube_server()
    try:
        install_crds(server)
        yield server
    finally:
        server.stop()


@pytest.fixture
def kube_namespace(kube: KubeServer) -> str:
    """The name of a new, empty namespace; it stays until the server goes."""
    name = f"test-{uuid4().hex[:12]}"
    create_namespace(kube, name)
    return name
