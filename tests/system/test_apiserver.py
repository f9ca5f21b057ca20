"""The tests' own Kubernetes API server behaves as tests rest on: kinds, conflicts, rights, and its end."""

import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from ssl import create_default_context
from threading import Event
from time import monotonic
from typing import Any

import pytest
from kubernetes.client import (
    ApiException,
    AuthenticationV1Api,
    CoreV1Api,
    CustomObjectsApi,
    V1SelfSubjectReview,
)

from tests.support.kube import (
    ARGO_GROUP,
    ARGO_KINDS,
    ARGO_VERSION,
    KubeServer,
    apply_yaml,
    create_namespace,
    create_workflow_template,
    list_workflows,
    request_json,
    start_kube_server,
    token_for,
    watch_workflow_uids,
)

WAIT_TIMEOUT_S = 30.0
WAIT_INTERVAL_S = 0.02
FORBIDDEN = 403


def workflow(name: str) -> dict[str, Any]:
    return {
        "apiVersion": f"{ARGO_GROUP}/{ARGO_VERSION}",
        "kind": "Workflow",
        "metadata": {"name": name},
        "spec": {"workflowTemplateRef": {"name": "model-refresh"}},
    }


def create(server: KubeServer, namespace: str, name: str, token: str | None = None) -> dict[str, Any]:
    with server.client(token or server.admin_token) as client:
        created: Any = CustomObjectsApi(client).create_namespaced_custom_object(
            ARGO_GROUP, ARGO_VERSION, namespace, "workflows", workflow(name)
        )
        assert isinstance(created, dict)
        return created


def delete(server: KubeServer, namespace: str, name: str) -> None:
    CustomObjectsApi(server.admin).delete_namespaced_custom_object(
        ARGO_GROUP, ARGO_VERSION, namespace, "workflows", name
    )


def role_text(namespace: str, subject: str) -> str:
    """A role that may create Workflows, bound to a subject given as YAML's flow mapping."""
    return f"""
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {{name: submitter, namespace: {namespace}}}
rules:
  - {{apiGroups: [argoproj.io], resources: [workflows], verbs: [create]}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {{name: submitter, namespace: {namespace}}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: submitter}}
subjects:
  - {subject}
"""


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = monotonic() + WAIT_TIMEOUT_S
    while not condition():
        assert monotonic() < deadline, f"not so after {WAIT_TIMEOUT_S:.0f} s"
        Event().wait(WAIT_INTERVAL_S)


def may_create(server: KubeServer, namespace: str, name: str, token: str) -> bool:
    try:
        create(server, namespace, name, token)
    except ApiException as error:
        assert error.status == FORBIDDEN
        return False
    return True


def test_only_its_health_is_told_to_strangers(kube: KubeServer) -> None:
    context = create_default_context(cafile=str(kube.ca_file))
    with urllib.request.urlopen(f"{kube.url}/readyz", context=context) as answer:
        assert answer.read() == b"ok"
    with pytest.raises(urllib.error.HTTPError) as refusal:
        urllib.request.urlopen(f"{kube.url}/api", context=context)
    assert refusal.value.code == 401
    refusal.value.close()


def test_argo_kinds_are_served(kube: KubeServer) -> None:
    served = request_json(kube, "GET", f"/apis/{ARGO_GROUP}/{ARGO_VERSION}")["resources"]
    namespaced = {resource["kind"]: resource["namespaced"] for resource in served}
    assert namespaced == {kind: kind != "ClusterWorkflowTemplate" for kind in ARGO_KINDS}


def test_template_keeps_its_parameters(kube: KubeServer, kube_namespace: str) -> None:
    created = create_workflow_template(
        kube, kube_namespace, "model-refresh", {"region": None, "rows": "5"}, labels={"team": "ml"}
    )
    assert created["spec"]["arguments"]["parameters"] == [{"name": "region"}, {"name": "rows", "value": "5"}]
    assert created["metadata"]["labels"] == {"team": "ml"}
    of_cluster = create_workflow_template(kube, "", f"of-{kube_namespace}", {}, cluster=True)
    assert of_cluster["kind"] == "ClusterWorkflowTemplate"
    assert "namespace" not in of_cluster["metadata"]


def test_second_workflow_of_one_name_conflicts(kube: KubeServer, kube_namespace: str) -> None:
    first = create(kube, kube_namespace, "model-refresh-1")
    with pytest.raises(ApiException) as conflict:
        create(kube, kube_namespace, "model-refresh-1")
    assert conflict.value.status == 409
    uids = [found["metadata"]["uid"] for found in list_workflows(kube, kube_namespace)]
    assert uids == [first["metadata"]["uid"]]


def test_user_needs_a_role(kube: KubeServer, kube_namespace: str) -> None:
    tester, outsider = (kube.user_tokens[user] for user in ("headrace-tester", "headrace-outsider"))
    assert not may_create(kube, kube_namespace, "refused", tester)
    apply_yaml(kube, role_text(kube_namespace, "{kind: User, name: headrace-tester}"))
    wait_until(lambda: may_create(kube, kube_namespace, "allowed", tester))
    assert not may_create(kube, kube_namespace, "refused", outsider)
    assert [found["metadata"]["name"] for found in list_workflows(kube, kube_namespace)] == ["allowed"]


def test_service_account_token_carries_its_rights(kube: KubeServer, kube_namespace: str) -> None:
    apply_yaml(
        kube,
        f"{{apiVersion: v1, kind: ServiceAccount, metadata: {{name: engine, namespace: {kube_namespace}}}}}",
    )
    token = token_for(kube, kube_namespace, "engine")
    with kube.client(token) as client:
        review = AuthenticationV1Api(client).create_self_subject_review(V1SelfSubjectReview())
    assert review.status is not None and review.status.user_info is not None
    assert review.status.user_info.username == f"system:serviceaccount:{kube_namespace}:engine"
    assert not may_create(kube, kube_namespace, "refused", token)
    subject = f"{{kind: ServiceAccount, name: engine, namespace: {kube_namespace}}}"
    apply_yaml(kube, role_text(kube_namespace, subject))
    wait_until(lambda: may_create(kube, kube_namespace, "allowed", token))


def test_apply_changes_what_exists(kube: KubeServer, kube_namespace: str, tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    for data in ("{window: 1h, lateness: 60s}", "{window: 2h}"):
        file.write_text(
            "apiVersion: v1\nkind: ConfigMap\n"
            f"metadata: {{name: settings, namespace: {kube_namespace}}}\ndata: {data}\n"
        )
        apply_yaml(kube, file)
    found = CoreV1Api(kube.admin).read_namespaced_config_map("settings", kube_namespace)
    assert found.data == {"window": "2h"}


def test_apply_names_an_unknown_kind(kube: KubeServer) -> None:
    with pytest.raises(LookupError, match="knows no kind Trickle in v1"):
        apply_yaml(kube, "{apiVersion: v1, kind: Trickle, metadata: {name: one}}")


def test_watch_counts_deleted_workflows(kube: KubeServer, kube_namespace: str) -> None:
    before = create(kube, kube_namespace, "before")["metadata"]["uid"]
    with watch_workflow_uids(kube, kube_namespace) as watch:
        assert set(watch.seen) == {before}
        first = create(kube, kube_namespace, "double")["metadata"]["uid"]
        delete(kube, kube_namespace, "double")
        second = create(kube, kube_namespace, "double")["metadata"]["uid"]
        assert set(watch.wait_for(3, WAIT_TIMEOUT_S)) == {before, first, second}
        assert len(list_workflows(kube, kube_namespace)) == 2
        with pytest.raises(TimeoutError, match=r"Saw 3 of 4 .*'before', 'double', 'double'"):
            watch.wait_for(4, 0.0)


def test_server_ends_with_its_parent_and_keeps_its_objects(tmp_path: Path) -> None:
    parent = (
        "import sys; from pathlib import Path; from tests.support.kube import *\n"
        "server = start_kube_server(Path(sys.argv[1])); create_namespace(server, 'kept')\n"
        "print(server.url, server.user_tokens['headrace-tester'], flush=True); sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", parent, str(tmp_path)],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        url, token = process.stdout.readline().split()
        process.kill()
    wait_until(lambda: not answers(url))

    server = start_kube_server(tmp_path, port=int(url.rpartition(":")[2]))
    try:
        assert (server.url, server.user_tokens["headrace-tester"]) == (url, token)
        assert answers(url)
        with pytest.raises(ApiException) as conflict:
            create_namespace(server, "kept")
        assert conflict.value.status == 409
    finally:
        server.stop()
        server.stop()
    assert not answers(url)


def answers(url: str) -> bool:
    context = create_default_context()
    try:
        urllib.request.urlopen(f"{url}/livez", context=context, timeout=WAIT_TIMEOUT_S)
    except urllib.error.URLError as error:
        # A certificate that we do not trust shows that somebody serves; nobody refuses the connection.
        return not isinstance(error.reason, ConnectionRefusedError)
    return True
