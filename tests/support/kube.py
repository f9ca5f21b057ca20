"""The real Kubernetes API server of the tests, and what fills and watches it: import all of it from here.

The parts: kube_binary builds the server, kube_server starts it, kube_objects fills it, kube_watch watches it.
"""

from .kube_binary import KubeServerError, cached_binary_path, ensure_binary
from .kube_objects import (
    ARGO_GROUP,
    ARGO_KINDS,
    ARGO_VERSION,
    KubeObject,
    apply_yaml,
    create_namespace,
    create_workflow_template,
    install_crds,
    list_workflows,
    request_json,
    token_for,
)
from .kube_server import STATIC_USERS, KubeServer, start_kube_server
from .kube_watch import WorkflowWatch, watch_workflow_uids

__all__ = [
    "ARGO_GROUP",
    "ARGO_KINDS",
    "ARGO_VERSION",
    "STATIC_USERS",
    "KubeObject",
    "KubeServer",
    "KubeServerError",
    "WorkflowWatch",
    "apply_yaml",
    "cached_binary_path",
    "create_namespace",
    "create_workflow_template",
    "ensure_binary",
    "install_crds",
    "list_workflows",
    "request_json",
    "start_kube_server",
    "token_for",
    "watch_workflow_uids",
]
