"""Put objects into a Kubernetes API server and read them back, with the admin's rights."""

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Event
from time import monotonic
from typing import Any, cast

import yaml
from kubernetes.client import (
    ApiException,
    AuthenticationV1TokenRequest,
    CoreV1Api,
    CustomObjectsApi,
    V1Namespace,
    V1ObjectMeta,
    V1TokenRequestSpec,
)

from .kube_server import KubeServer

KubeObject = dict[str, Any]
"""An object as the API server returns it in JSON."""

ARGO_GROUP = "argoproj.io"
ARGO_VERSION = "v1alpha1"
ARGO_KINDS = ("Workflow", "WorkflowTemplate", "ClusterWorkflowTemplate", "CronWorkflow", "Sensor")

_CRDS_FILE = Path(__file__).with_name("argo-crds.yaml")
_SERVED_TIMEOUT_S = 30.0
_SERVED_INTERVAL_S = 0.02
_TOKEN_LIFETIME_S = 3600
_FIELD_MANAGER = "headrace-tests"


def install_crds(server: KubeServer) -> None:
    """Define the kinds of argo-crds.yaml and return once the server serves them all.

    :raises TimeoutError: if it does not within 30 s.
    """
    apply_yaml(server, _CRDS_FILE)
    deadline = monotonic() + _SERVED_TIMEOUT_S
    while missing := _kinds_not_served(server):
        if monotonic() > deadline:
            raise TimeoutError(
                f"{server.url} does not serve {', '.join(missing)} within {_SERVED_TIMEOUT_S:.0f} s of their "
                f"definition; see the server's log in {server.directory}."
            )
        Event().wait(_SERVED_INTERVAL_S)


def _kinds_not_served(server: KubeServer) -> list[str]:
    try:
        served = _resources(server, f"{ARGO_GROUP}/{ARGO_VERSION}")
        # A kind that discovery names may still be without its storage, so each is also listed once; all at
        # once, as the first request for a kind takes a second.
        paths = [f"/apis/{ARGO_GROUP}/{ARGO_VERSION}/{resource['name']}" for resource in served.values()]
        with ThreadPoolExecutor(max_workers=len(ARGO_KINDS)) as threads:
            list(threads.map(partial(request_json, server, "GET"), paths))
    except ApiException as error:
        if error.status not in (404, 503):
            raise
        return list(ARGO_KINDS)
    return [kind for kind in ARGO_KINDS if kind not in served]


def apply_yaml(server: KubeServer, source: Path | str) -> list[KubeObject]:
    """Create the objects of a YAML file or text in the order given, or bring existing ones into line.

    Namespaced objects without a namespace go to ``default``.

    :param source: a path to a file, or the YAML text itself; documents separated by ``---``.
    :returns: the objects as the server now has them.
    :raises kubernetes.client.ApiException: if the server refuses one; those before it stay.
    """
    text = source.read_text() if isinstance(source, Path) else source
    documents = [document for document in yaml.safe_load_all(text) if document]
    return [_apply(server, document) for document in documents]


def _apply(server: KubeServer, document: KubeObject) -> KubeObject:
    api_version, kind, metadata = document["apiVersion"], document["kind"], document["metadata"]
    resource = _resources(server, api_version).get(kind)
    if resource is None:
        raise LookupError(f"{server.url} knows no kind {kind} in {api_version}; install its definition first.")
    path = _api_path(api_version)
    if resource["namespaced"]:
        path += f"/namespaces/{metadata.get('namespace', 'default')}"
    path += f"/{resource['name']}/{metadata['name']}?fieldManager={_FIELD_MANAGER}&force=true"
    return request_json(server, "PATCH", path, document, content_type="application/apply-patch+yaml")


def _api_path(api_version: str) -> str:
    return f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"


def _resources(server: KubeServer, api_version: str) -> dict[str, KubeObject]:
    """Kind to what discovery says of it: name (its plural) and namespaced."""
    listed = request_json(server, "GET", _api_path(api_version))["resources"]
    return {resource["kind"]: resource for resource in listed if "/" not in resource["name"]}


def request_json(
    server: KubeServer,
    method: str,
    path: str,
    body: KubeObject | None = None,
    *,
    content_type: str = "application/json",
) -> KubeObject:
    """Send one request as the admin, for what the client package has no method for.

    :param path: with the query, if any.
    :returns: the body of the answer.
    :raises kubernetes.client.ApiException: if the answer is not 2xx.
    """
    request = server.admin.param_serialize(
        method,
        path,
        header_params={"Accept": "application/json", "Content-Type": content_type},
        # The client writes JSON itself where the content type says so.
        body=body if body is None or "json" in content_type else json.dumps(body),
        auth_settings=["BearerToken"],
    )
    response = server.admin.call_api(*request)
    content: bytes = response.read()
    if not 200 <= response.status <= 299:
        raise ApiException.from_response(http_resp=response, body=content.decode(errors="replace"), data=None)
    return cast(KubeObject, json.loads(content))


def create_namespace(server: KubeServer, name: str) -> None:
    """Create a namespace; 409 if it exists."""
    CoreV1Api(server.admin).create_namespace(V1Namespace(metadata=V1ObjectMeta(name=name)))


def create_workflow_template(
    server: KubeServer,
    namespace: str,
    name: str,
    parameters: Mapping[str, str | None],
    *,
    cluster: bool = False,
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
) -> KubeObject:
    """Create a WorkflowTemplate of one container step.

    :param parameters: declared workflow parameter to its default; None declares it without one.
    :param cluster: create a ClusterWorkflowTemplate; the namespace is then not used.
    :returns: the object as created.
    """
    declared = [
        {"name": parameter} if default is None else {"name": parameter, "value": default}
        for parameter, default in parameters.items()
    ]
    template = {
        "apiVersion": f"{ARGO_GROUP}/{ARGO_VERSION}",
        "kind": "ClusterWorkflowTemplate" if cluster else "WorkflowTemplate",
        "metadata": {"name": name, "labels": dict(labels or {}), "annotations": dict(annotations or {})},
        "spec": {
            "entrypoint": "main",
            "arguments": {"parameters": declared},
            "templates": [{"name": "main", "container": {"image": "busybox", "command": ["true"]}}],
        },
    }
    api = CustomObjectsApi(server.admin)
    if cluster:
        created = api.create_cluster_custom_object(ARGO_GROUP, ARGO_VERSION, "clusterworkflowtemplates", template)
    else:
        created = api.create_namespaced_custom_object(
            ARGO_GROUP, ARGO_VERSION, namespace, "workflowtemplates", template
        )
    return cast(KubeObject, created)


def list_workflows(server: KubeServer, namespace: str) -> list[KubeObject]:
    """All Workflows that the namespace holds now, by name."""
    listed = CustomObjectsApi(server.admin).list_namespaced_custom_object(
        ARGO_GROUP, ARGO_VERSION, namespace, "workflows"
    )
    return cast(list[KubeObject], cast(KubeObject, listed)["items"])


def token_for(server: KubeServer, namespace: str, service_account: str) -> str:
    """A bearer token of an existing service account, valid for an hour; 404 if there is no such account."""
    request = AuthenticationV1TokenRequest(spec=V1TokenRequestSpec(audiences=[], expiration_seconds=_TOKEN_LIFETIME_S))
    answer = CoreV1Api(server.admin).create_namespaced_service_account_token(service_account, namespace, request)
    assert answer.status is not None
    return str(answer.status.token)
