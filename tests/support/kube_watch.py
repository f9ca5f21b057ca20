"""Remember every Workflow that a namespace ever held, so that one deleted in between is still counted."""

import json
from collections.abc import Iterator
from threading import Condition, Thread
from types import TracebackType
from typing import Any, Self, cast

from kubernetes.client import CustomObjectsApi

from .kube_objects import ARGO_GROUP, ARGO_VERSION, KubeObject
from .kube_server import KubeServer


def watch_workflow_uids(server: KubeServer, namespace: str) -> "WorkflowWatch":
    """Watch a namespace's Workflows: ``with watch_workflow_uids(server, namespace) as watch: ...``."""
    return WorkflowWatch(server, namespace)


class WorkflowWatch:
    """Collects Workflows by uid, those there on entry and all that come until exit, in a thread of its own.

    A Workflow that is deleted and created anew under the same name has a second uid, and thus is seen twice.
    """

    def __init__(self, server: KubeServer, namespace: str) -> None:
        self._api = CustomObjectsApi(server.admin)
        self._namespace = namespace
        self._thread = Thread(target=self._run, name=f"watch-workflows-{namespace}", daemon=True)
        self._changed = Condition()
        self._seen: dict[str, KubeObject] = {}
        self._resource_version = ""
        # The stream that the thread blocks on, kept so that leaving can interrupt it.
        self._stream: Any = None
        self._leaving = False
        self._failure: Exception | None = None

    def __enter__(self) -> Self:
        listed = self._list()
        for workflow in listed["items"]:
            self._note(workflow)
        self._resource_version = listed["metadata"]["resourceVersion"]
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._changed:
            self._leaving = True
            if self._stream is not None:
                self._stream.shutdown()
        self._thread.join()

    @property
    def seen(self) -> dict[str, KubeObject]:
        """uid to the Workflow as it was last, deleted ones included.

        :raises RuntimeError: if the watch broke, as it may then have missed some.
        """
        with self._changed:
            self._check()
            return dict(self._seen)

    def wait_for(self, count: int, timeout_s: float) -> dict[str, KubeObject]:
        """Wait until at least ``count`` Workflows have been seen, and return all that have been.

        :raises TimeoutError: if they are fewer after ``timeout_s`` seconds.
        :raises RuntimeError: if the watch broke, as it may then have missed some.
        """
        with self._changed:
            done = self._changed.wait_for(lambda: self._failure or len(self._seen) >= count, timeout_s)
            self._check()
            if not done:
                names = sorted(workflow["metadata"]["name"] for workflow in self._seen.values())
                raise TimeoutError(
                    f"Saw {len(names)} of {count} Workflows in namespace {self._namespace} "
                    f"within {timeout_s} s: {names}"
                )
            return dict(self._seen)

    def _check(self) -> None:
        if self._failure is not None:
            raise RuntimeError(
                f"The watch of Workflows in namespace {self._namespace} broke and may have missed some; "
                "run the test again."
            ) from self._failure

    def _list(self) -> KubeObject:
        listed = self._api.list_namespaced_custom_object(ARGO_GROUP, ARGO_VERSION, self._namespace, "workflows")
        return cast(KubeObject, listed)

    def _note(self, workflow: KubeObject) -> None:
        """Take in one Workflow as it is now."""
        self._seen[workflow["metadata"]["uid"]] = workflow

    def _run(self) -> None:
        try:
            while self._open_stream():
                self._read_stream()
        except Exception as failure:
            with self._changed:
                # Interrupting the stream makes reading it fail, in one way or another.
                if not self._leaving:
                    self._failure = failure
                self._changed.notify_all()

    def _open_stream(self) -> bool:
        """Continue the watch where it is, and return True; False once the watch is being left."""
        stream = cast(
            Any,
            self._api.list_namespaced_custom_object(
                ARGO_GROUP,
                ARGO_VERSION,
                self._namespace,
                "workflows",
                watch=True,
                allow_watch_bookmarks=True,
                resource_version=self._resource_version,
                _preload_content=False,
            ),
        )
        with self._changed:
            if self._leaving:
                stream.close()
                return False
            self._stream = stream
            return True

    def _read_stream(self) -> None:
        """Take in events until the server or __exit__ ends the stream."""
        try:
            for line in _lines(self._stream):
                self._take(json.loads(line))
        finally:
            with self._changed:
                self._stream.close()
                self._stream = None

    def _take(self, event: KubeObject) -> None:
        if event["type"] == "ERROR":
            # Above all 410: events between the last one and now are gone, and with them perhaps a Workflow.
            raise RuntimeError(event["object"].get("message", "the server gave no reason"))
        metadata = event["object"]["metadata"]
        with self._changed:
            self._resource_version = metadata["resourceVersion"]
            if event["type"] != "BOOKMARK":
                self._note(event["object"])
                self._changed.notify_all()


def _lines(stream: Any) -> Iterator[bytes]:
    """The stream's complete lines as they arrive, without its unfinished last one."""
    rest = b""
    for part in stream.stream(amt=None, decode_content=False):
        *complete, rest = (rest + part).split(b"\n")
        yield from complete
