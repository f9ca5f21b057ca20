"""The Workflow that a firing creates, and what the API server's answers mean."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

import orjson

from headrace.model import bounds
from headrace.model.dead_letter import Reason
from headrace.model.firing import Firing
from headrace.model.times import instant_text
from headrace.stages.bind import Refusal

NAME_CHARACTERS_MAX = 63
_HASH_CHARACTERS = 20
FIRING_ANNOTATION = "headrace.dev/firing"


@dataclass(frozen=True, slots=True)
class Workflow:
    """A Workflow ready to be created."""

    namespace: str
    name: str
    body: bytes


def workflow_name(template: str, firing_id: str) -> str:
    """Name the Workflow of a firing: the template's name and the firing's hash, so that it cannot exist twice."""
    return f"{template[: NAME_CHARACTERS_MAX - 1 - _HASH_CHARACTERS].rstrip('-.')}-{firing_id[:_HASH_CHARACTERS]}"


def workflow(firing: Firing, parameters: dict[str, str]) -> Workflow | Refusal:
    """Build the Workflow of a firing."""
    definition = firing.definition
    namespace, (_, _, trigger) = definition.run_namespace, definition.trigger.partition("/")
    reference: dict[str, Any] = {"name": definition.run_target}
    if definition.run_kind == "clusterWorkflowTemplate":
        reference["clusterScope"] = True
    events = [{"id": e.id, "name": e.name, "time": instant_text(e.time_ms)} for e in firing.events]
    name = workflow_name(definition.run_target, firing.id)
    body = orjson.dumps(
        {
            "apiVersion": "argoproj.io/v1alpha1",
            "kind": "Workflow",
            "metadata": {
                "name": name,
                "namespace": namespace,
                "labels": {
                    **_sensor_labels(firing),
                    "headrace.dev/trigger": label_value(trigger),
                    "headrace.dev/firing": firing.id,
                },
                "annotations": {
                    **(definition.sensor or {}).get("annotations", {}),
                    "headrace.dev/trigger": definition.trigger,
                    FIRING_ANNOTATION: firing.id,
                    "headrace.dev/events": orjson.dumps(events).decode().replace("{{", "\\u007b\\u007b"),
                },
            },
            "spec": {
                "workflowTemplateRef": reference,
                "arguments": {"parameters": [{"name": n, "value": v} for n, v in parameters.items()]},
            },
        }
    )
    if len(body) > bounds.WORKFLOW_BYTES_MAX:
        message = (
            f"the Workflow would have {len(body)} bytes; {bounds.WORKFLOW_BYTES_MAX} is the most: pass less payload"
        )
        return Refusal(Reason.WORKFLOW_TOO_LARGE, message)
    return Workflow(namespace, name, body)


def _sensor_labels(firing: Firing) -> dict[str, str]:
    """Return the labels that Argo Events would give: those of the Sensor's Workflow, and its own three."""
    sensor = firing.definition.sensor
    if sensor is None:
        return {}
    return {
        **sensor["labels"],
        "events.argoproj.io/sensor": label_value(sensor["name"]),
        "events.argoproj.io/trigger": label_value(sensor["trigger"]),
        # Argo Events has the clock's time here; the set's own makes the same Workflow at every try.
        "events.argoproj.io/action-timestamp": str(firing.time_ms),
    }


def label_value(name: str) -> str:
    """Return `name` as a label's value: Kubernetes allows 63 characters, so a longer one ends in its hash."""
    if len(name) <= 63:
        return name
    return f"{name[:52].rstrip('-.')}-{hashlib.sha256(name.encode()).hexdigest()[:10]}"


class Answer(Enum):
    """What an answer to a creation means: the closed set of outcomes."""

    CREATED = auto()
    EXISTS = auto()
    """A Workflow of that name exists: ours if its annotation names this firing."""
    RETRY = auto()
    """The server, or the way to it, or our rights, are not well now; they may be later."""
    REFUSED = auto()
    """The server will never take this object."""


def classify(status: int, body: bytes) -> tuple[Answer, str]:
    """Return what an HTTP answer means, and the server's own words."""
    if 200 <= status < 300:
        return Answer.CREATED, ""
    reason, message = "", body[:300].decode("utf-8", "replace")
    try:
        parsed = orjson.loads(body)
        reason, message = str(parsed.get("reason", "")), str(parsed.get("message", message))
    except (orjson.JSONDecodeError, AttributeError):
        pass
    if status == 409 and reason == "AlreadyExists":
        return Answer.EXISTS, message
    # 403 is also how quotas and missing rights answer; both are mended without touching the firing.
    if status in (401, 403, 408, 409, 429) or status >= 500:
        return Answer.RETRY, f"HTTP {status}: {message}"
    return Answer.REFUSED, f"HTTP {status}: {message}"


def firing_of_workflow(body: bytes) -> str | None:
    """Return the id of the firing that made a Workflow, as its annotation says."""
    metadata = orjson.loads(body).get("metadata", {})
    firing = (metadata.get("annotations") or {}).get(FIRING_ANNOTATION)
    return firing if isinstance(firing, str) else None


def retry_delay_s(attempts: int, share: float) -> float:
    """Return how long to wait before the next try, seconds.

    Args:
        attempts: tries so far, at least 1.
        share: a random number in [0, 1): the jitter that keeps many firings from coming back at one moment.
    """
    ceiling_s = min(60.0, 0.25 * 2.0 ** min(attempts, 10))
    return ceiling_s * (0.5 + 0.5 * share)
