"""The shapes of records and listings that are written by hand for speed, as models: schemas are generated from these.

A contract test holds what the code writes against them.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from headrace.model.dead_letter import Reason
from headrace.model.sensor import SensorRun

EventRow = (
    tuple[str, str, int, int, int, str] | tuple[str, str, int, int, int, str, dict[str, str]]
)  # fmt: skip
"""id, name, time_ms, partition, offset, payload (JSON text), and headers where a mapping reads them."""


class _Wire(BaseModel):
    model_config = ConfigDict(extra="forbid")


class WireDefinition(_Wire):
    """One generation of a trigger, with every default resolved."""

    trigger: str = Field(description="namespace/name")
    creation: str
    generation: int
    signature: str = Field(description="While it stays the same, pending events are kept across generations.")
    window_ms: int
    lateness_ms: int
    match: Literal["latest", "each"]
    dependencies: list[str]
    mappings: list[dict[str, str] | None]
    run_kind: Literal["workflowTemplate", "clusterWorkflowTemplate", "flow"]
    run_target: str
    constants: dict[str, Any]
    max_age_ms: int | None
    sensor: SensorRun | None = None


class WireFrame(_Wire):
    """A record of headrace.matches: the matches that one turn of a router produced for one partition."""

    version: Literal[1]
    kind: Literal["frame"]
    definitions: list[WireDefinition]
    events: list[EventRow]
    matches: list[tuple[int, int, list[int], str]] = Field(
        description="Index of the definition, index of the event, indexes of the dependencies passed, canonical key."
    )


class WireTick(_Wire):
    """A record of headrace.matches: join time."""

    version: Literal[1]
    kind: Literal["tick"]
    time_ms: int = Field(description="Milliseconds since 1970.")


class WireFiring(_Wire):
    """A record of headrace.firings: the decision to start one run."""

    version: Literal[1]
    id: str = Field(pattern="^[0-9a-f]{32}$")
    definition: WireDefinition
    key: str = Field(description="Canonical JSON of the join key; empty where the trigger has none.")
    events: list[EventRow] = Field(description="One for each dependency, in their order.")


class EventListing(_Wire):
    """An event as `headrace events --json` prints it."""

    id: str
    name: str
    time_ms: int = Field(description="Event time, milliseconds since 1970.")
    partition: int
    offset: int
    payload: dict[str, Any]


class UnreadableListing(_Wire):
    """A record that is no event, as `headrace events --json` prints it."""

    name: str
    partition: int
    offset: int
    unreadable: Reason
    message: str


class RoleListing(_Wire):
    """One running role as `headrace status --json` prints it."""

    role: str
    pid: int
    host: str
    http: str = Field(description="Address of /livez, /readyz and /metrics.")
    ready: bool
    why: str | None = Field(description="Why it is not ready.")


class LagListing(_Wire):
    """One role's lag in one topic, as `headrace lag --json` prints it."""

    role: str
    topic: str
    records: int = Field(ge=0)
