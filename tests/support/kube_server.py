"""Start and stop a real Kubernetes API server: our own binary, or k3s where a Docker daemon answers."""

import base64
import csv
import io
import json
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from pathlib import Path

import yaml
from kubernetes.client import ApiClient
from kubernetes.config import new_client_from_config

from .kube_binary import KubeServerError, ensure_binary

K3S_IMAGE = "rancher/k3s:v1.36.3-k3s1"
STATIC_USERS = ("headrace-tester", "headrace-outsider")
"""Users without any rights, for tests to bind roles to by name, or to leave without."""

_DOCKER_ANSWER_TIMEOUT_S = 10.0
_STOP_TIMEOUT_S = 15.0
_LOG_TAIL_BYTES = 2000


@dataclass(frozen=True)
class KubeServer:
    """A running API server."""

    url: str
    """https, loopback, with the port."""
    ca_file: Path
    """PEM certificates that vouch for the server."""
    admin_token: str
    """Bearer token of a member of system:masters, who may do everything."""
    user_tokens: Mapping[str, str]
    """User name to bearer token, for each of STATIC_USERS."""
    directory: Path
    """Where the server's state and the kubeconfig files are."""
    _stop: Callable[[], None] = field(repr=False)

    @property
    def kubeconfig_path(self) -> Path:
        """A kubeconfig of the admin."""
        return self.kubeconfig_for(self.admin_token)

    def kubeconfig_for(self, token: str, namespace: str = "default") -> Path:
        """Write a kubeconfig whose only context uses this bearer token and namespace, and return its path."""
        identity = sha256(f"{token}/{namespace}".encode()).hexdigest()[:16]
        path = self.directory / f"kubeconfig-{identity}.yaml"
        authority = base64.b64encode(self.ca_file.read_bytes()).decode()
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": {"server": self.url, "certificate-authority-data": authority}}],
            "users": [{"name": "test", "user": {"token": token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test", "namespace": namespace}}],
            "current-context": "test",
        }
        # Replaced as a whole, because a process that was given the path may be reading the file.
        with tempfile.NamedTemporaryFile("w", dir=self.directory, delete=False) as unfinished:
            yaml.safe_dump(document, unfinished)
        return Path(unfinished.name).rename(path)

    def client(self, token: str) -> ApiClient:
        """A new client that authenticates with this bearer token; whoever asks for it closes it."""
        client: ApiClient = new_client_from_config(str(self.kubeconfig_for(token)))
        return client

    @cached_property
    def admin(self) -> ApiClient:
        """A client with the admin's rights, usable by several threads; stop() closes it."""
        return self.client(self.admin_token)

    def stop(self) -> None:
        """End the server and what it holds; calling it again does nothing."""
        if "admin" in self.__dict__:
            self.admin.close()
        self._stop()


def start_kube_server(directory: Path | None = None, port: int = 0) -> KubeServer:
    """Start an API server and return once it is ready.

    Where a Docker daemon answers this is k3s, otherwise the binary of tests/apiserver. The k3s branch is not
    run where there is no Docker, and was written in such a place: nobody has seen it work yet. The binary has
    neither nodes nor controllers: deleted namespaces stay Terminating, owners do not take their dependents
    along, and no default service accounts are made.

    :param directory: keeps the server's state, so that a later start on it finds the same objects and users'
        tokens (with the binary only; k3s loses its objects). None: a temporary one that stop() removes.
    :param port: on loopback; 0 picks a free one (k3s: Docker always picks).
    :raises KubeServerError: if no server can be had or it does not become ready.
    """
    with ExitStack() as undo:
        if directory is None:
            directory = Path(tempfile.mkdtemp(prefix="headrace-kube-"))
            undo.callback(shutil.rmtree, directory, ignore_errors=True)
        directory.mkdir(parents=True, exist_ok=True)
        # Each takes what must be undone over into the server that it returns; what fails is undone here.
        if _docker_answers():
            return _start_k3s(directory, undo)
        return _start_binary(ensure_binary(), directory, port, undo)


def _start_binary(binary: Path, directory: Path, port: int, undo: ExitStack) -> KubeServer:
    users_file = directory / "users.csv"
    user_tokens = _write_users(users_file)
    log_file = directory / "apiserver.log"
    command = [str(binary), "--data-dir", str(directory), "--secure-port", str(port)]
    command += ["--tokens", str(users_file)]
    with log_file.open("ab") as log:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log)
    undo.callback(_end_process, process)
    assert process.stdout is not None
    # The server bounds its own start, and ends where it fails; so this read always returns.
    line = process.stdout.readline()
    if not line:
        tail = log_file.read_bytes()[-_LOG_TAIL_BYTES:].decode(errors="replace")
        raise KubeServerError(f"The Kubernetes API server for the tests did not start in {directory}: {tail}")
    announced = json.loads(line)
    return KubeServer(
        url=announced["url"],
        ca_file=Path(announced["ca_file"]),
        admin_token=Path(announced["admin_token_file"]).read_text(),
        user_tokens=user_tokens,
        directory=directory,
        _stop=undo.pop_all().close,
    )


def _end_process(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None and process.stdout is not None
    process.terminate()
    process.stdin.close()
    try:
        process.wait(_STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    process.stdout.close()


def _write_users(users_file: Path, *admins: str) -> dict[str, str]:
    """Write the API server's static token file, unless it exists, and return each user's token."""
    if not users_file.exists():
        text = io.StringIO()
        rows = csv.writer(text)
        for user in admins:
            rows.writerow([secrets.token_hex(16), user, user, "system:masters"])
        for user in STATIC_USERS:
            rows.writerow([secrets.token_hex(16), user, user])
        users_file.touch(mode=0o600)
        users_file.write_text(text.getvalue())
    with users_file.open(newline="") as lines:
        return {row[1]: row[0] for row in csv.reader(lines)}


def _docker_answers() -> bool:
    """Whether a Docker daemon, rather than only its command, is there."""
    try:
        command = ["docker", "version", "--format", "{{.Server.Version}}"]
        result = subprocess.run(command, capture_output=True, timeout=_DOCKER_ANSWER_TIMEOUT_S, check=False)
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return False
    return result.returncode == 0


def _start_k3s(directory: Path, undo: ExitStack) -> KubeServer:
    # Only here, as importing it is slow and asks for a Docker daemon's settings.
    from testcontainers.community.k3s import K3SContainer

    user_tokens = _write_users(directory / "users.csv", "admin")
    admin_token = user_tokens.pop("admin")
    container = K3SContainer(K3S_IMAGE)
    container.with_volume_mapping(str(directory), "/headrace", "ro")
    container.with_command(
        f"server --disable=traefik,metrics-server,servicelb --tls-san={container.get_container_host_ip()}"
        " --kube-apiserver-arg=token-auth-file=/headrace/users.csv"
    )
    undo.callback(container.stop)
    container.start()
    cluster = yaml.safe_load(container.config_yaml())["clusters"][0]["cluster"]
    ca_file = directory / "ca.crt"
    ca_file.write_bytes(base64.b64decode(cluster["certificate-authority-data"]))
    return KubeServer(
        url=cluster["server"],
        ca_file=ca_file,
        admin_token=admin_token,
        user_tokens=user_tokens,
        directory=directory,
        _stop=undo.pop_all().close,
    )
