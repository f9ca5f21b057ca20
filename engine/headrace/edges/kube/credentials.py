"""Who we are to Kubernetes, and where it is: what the kubeconfig, or a pod's service account, says now."""

from __future__ import annotations

import asyncio
import hashlib
import os
import ssl
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from headrace.model.errors import TargetError

# An exec plugin may open a browser or ask a cloud; what takes longer than this hangs.
LOAD_TIMEOUT_S = 30.0
DEFAULT_NAMESPACE = "default"
_SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


@dataclass(frozen=True, slots=True)
class Tls:
    """How connections to the API server are secured."""

    identity: bytes
    """Digest of the files and settings below: while it stays the same, open connections stay good."""
    context: ssl.SSLContext
    server_hostname: str | None
    """Name that the server's certificate must bear, where it is not the address's."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a request to the API server needs besides its own path and body."""

    server: str
    """URL without a slash at its end; behind a gateway it may have a path."""
    authorization: str | None
    """Value of the Authorization header; None with a client certificate."""
    namespace: str
    tls: Tls
    proxy: str | None

    @property
    def identity(self) -> tuple[str | bytes | None, ...]:
        """What two readings have in common when nothing has changed between them."""
        return self.server, self.authorization, self.proxy, self.tls.identity


def configured() -> bool:
    """Say whether a kubeconfig file or a pod's service account exists, without reading either."""
    return bool(_kubeconfig_files()) or in_cluster()


async def load() -> Credentials:
    """Read the credentials as they are now; exec plugins run for it.

    Raises:
        TargetError: there are none, or they cannot be used.
    """
    # It imports every model of the Kubernetes API, which takes a second; commands that never connect do without.
    from kubernetes.aio.client import Configuration

    configuration = Configuration()
    files = _kubeconfig_files()
    if not files and not in_cluster():
        raise TargetError(
            f"no Kubernetes credentials: neither {_kubeconfig_variable()} nor a service account exists; "
            "set KUBECONFIG, or use triggers that run a local flow"
        )
    source = f"the kubeconfig {os.pathsep.join(files)}" if files else f"the service account in {_SERVICE_ACCOUNT}"
    try:
        async with asyncio.timeout(LOAD_TIMEOUT_S):
            namespace = await _load_kubeconfig(files, configuration) if files else _load_in_cluster(configuration)
        return await _credentials(configuration, namespace)
    except TimeoutError:
        raise TargetError(
            f"{source} gave no credentials within {LOAD_TIMEOUT_S:g} s: try `kubectl get namespaces` with it"
        ) from None
    except TargetError:
        raise
    except Exception as error:
        # The package answers a damaged file with whatever its code runs into: KeyError, TypeError, YAMLError and more.
        raise TargetError(f"{source} cannot be used: {error or type(error).__name__}") from error


def _kubeconfig_variable() -> str:
    return os.environ.get("KUBECONFIG") or str(Path.home() / ".kube" / "config")


def _kubeconfig_files() -> list[str]:
    """Return the kubeconfig files that exist, in the order in which they are merged."""
    paths = [os.path.expanduser(path) for path in _kubeconfig_variable().split(os.pathsep) if path]
    return [path for path in paths if os.path.isfile(path)]


def in_cluster() -> bool:
    """Say whether this process runs in a pod that has a service account."""
    return bool(os.environ.get("KUBERNETES_SERVICE_HOST")) and (_SERVICE_ACCOUNT / "token").is_file()


async def _load_kubeconfig(files: list[str], configuration: Any) -> str:
    from kubernetes.aio.config import load_kube_config

    loader = await load_kube_config(os.pathsep.join(files), client_configuration=configuration, persist_config=False)
    context = loader.current_context
    if not (configuration.api_key or configuration.cert_file) and context["context"].get("user"):
        # The package only logs that an exec plugin failed; every request would then be refused as anonymous.
        raise TargetError(
            f"the context {context['name']} of {os.pathsep.join(files)} gives neither a token nor a client "
            "certificate: try `kubectl auth whoami`, which shows what is wrong with its user"
        )
    namespace = context["context"].get("namespace")
    return str(namespace or DEFAULT_NAMESPACE)


def _load_in_cluster(configuration: Any) -> str:
    from kubernetes.aio.config import load_incluster_config

    load_incluster_config(client_configuration=configuration)
    try:
        return (_SERVICE_ACCOUNT / "namespace").read_text().strip() or DEFAULT_NAMESPACE
    except FileNotFoundError:
        return DEFAULT_NAMESPACE


async def _credentials(configuration: Any, namespace: str) -> Credentials:
    from kubernetes.aio.client.rest import RESTClientObject

    key = await configuration.get_api_key_with_prefix("BearerToken")
    rest = RESTClientObject(configuration)
    server = configuration.host.rstrip("/")
    return Credentials(
        server=server,
        # Tokens read from a file often end in a newline, which no header may hold.
        authorization=key.strip() if key else None,
        namespace=namespace,
        tls=Tls(_tls_identity(configuration), rest.ssl_context, configuration.tls_server_name),
        proxy=rest.proxy or _environment_proxy(server),
    )


def _tls_identity(configuration: Any) -> bytes:
    digest = hashlib.sha256(repr((configuration.verify_ssl, configuration.tls_server_name)).encode())
    for path in (configuration.ssl_ca_cert, configuration.cert_file, configuration.key_file):
        digest.update(b"\0" if path is None else hashlib.sha256(Path(path).read_bytes()).digest())
    return digest.digest()


def _environment_proxy(server: str) -> str | None:
    """Return the proxy that HTTPS_PROXY and NO_PROXY ask for; asked once here, as it is costly for each request."""
    parts = urlsplit(server)
    if urllib.request.proxy_bypass(parts.netloc):
        return None
    return urllib.request.getproxies().get(parts.scheme)
