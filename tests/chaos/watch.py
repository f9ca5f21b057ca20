"""The count of Workflows: every uid that ever was, by the set that it belongs to, whatever befalls the watch itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Event

from kubernetes.client import ApiException
from urllib3.exceptions import HTTPError

from tests.chaos.sets import SetName
from tests.support.kube import KubeObject, KubeServer, WorkflowWatch
from tests.support.tenant import parameters_of

TRIGGER_ANNOTATION = "headrace.dev/trigger"
_AGAIN_S = 0.1


class RunWatch(WorkflowWatch):
    """A watch that goes on after the API server went away.

    What it missed then it finds in a list. That is exact, because in a run only `World.delete_workflows` deletes
    Workflows, and only such as the watch has seen.
    """

    def __init__(self, server: Callable[[], KubeServer], namespace: str) -> None:
        """Watch at whichever server is the present one."""
        super().__init__(server(), namespace)
        self.found: dict[SetName, dict[str, float]] = {}
        """Set to the uids of its Workflows, and when each was first seen, in seconds of the monotonic clock."""
        self.unknown: list[KubeObject] = []
        """Workflows that belong to no set."""
        self.gaps = 0
        """How often the watch broke and a list had to tell what it missed."""
        self._pause = Event()

    def name_of(self, uid: str) -> str:
        """The name of a Workflow that was seen."""
        with self._changed:
            return str(self._seen[uid]["metadata"]["name"])

    def _run(self) -> None:
        while not self._leaving:
            try:
                while self._open_stream():
                    self._read_stream()
                return
            except (ApiException, HTTPError, OSError, RuntimeError, ValueError, AttributeError):
                # Whatever ended it: what was missed is in the list, or the list fails likewise and comes again.
                self.gaps += not self._leaving
            while not self._leaving:
                try:
                    self._relist()
                    break
                except (ApiException, HTTPError, OSError):
                    self._pause.wait(_AGAIN_S)

    def _relist(self) -> None:
        listed = self._list()
        with self._changed:
            self._resource_version = listed["metadata"]["resourceVersion"]
            for workflow in listed["items"]:
                self._note(workflow)
            self._changed.notify_all()

    def _note(self, workflow: KubeObject) -> None:
        uid = workflow["metadata"]["uid"]
        if uid not in self._seen:
            name = set_of(workflow)
            if name is None:
                self.unknown.append(workflow)
            else:
                self.found.setdefault(name, {})[uid] = time.monotonic()
            self._seen[uid] = _needed(workflow)


def _needed(workflow: KubeObject) -> KubeObject:
    """Keep what a verdict asks for: hours of whole Workflows would fill the memory."""
    metadata = workflow["metadata"]
    kept = {name: metadata.get(name) for name in ("name", "uid", "labels", "annotations")}
    return {"metadata": kept, "spec": {"arguments": workflow["spec"]["arguments"]}}


def set_of(workflow: KubeObject) -> SetName | None:
    """Return the set that a Workflow belongs to; None where it tells none."""
    trigger = (workflow["metadata"].get("annotations") or {}).get(TRIGGER_ANNOTATION, "")
    number = parameters_of(workflow).get("set", "")
    return (trigger.partition("/")[2], int(number)) if number.isdecimal() else None
