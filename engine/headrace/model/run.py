"""A run: what a firing became. One record of `headrace.runs` for each change, keyed by the firing's id."""

from __future__ import annotations

import base64
from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from headrace.model.errors import RecordError


class RunState(StrEnum):
    """Where a run stands."""

    QUEUED = "queued"
    """It waits for a retry, a pause or a free slot; the record holds the firing's bytes."""
    STARTED = "started"
    """The Workflow exists, or the local process is being started."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    UNKNOWN = "unknown"
    """A local process whose end nobody saw. It is not started again by itself."""
    REFUSED = "refused"
    """It cannot start; a dead letter holds the firing and the reason."""


class RunEvent(BaseModel):
    """An event of a run, as a listing shows it."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    dependency: str
    id: str
    name: str
    time_ms: int


class Run(BaseModel):
    """One state of one run."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    version: Literal[1] = 1
    firing: str = Field(description="The firing's id.")
    trigger: str = Field(description="namespace/name")
    state: RunState
    time_ms: int = Field(description="When this state began, milliseconds since 1970.")
    fired_ms: int = Field(description="The newest event's time, milliseconds since 1970.")
    target: str = Field(description="kind:name of what runs, such as workflowTemplate:model-refresh.")
    run: str | None = Field(None, description="namespace/name of the Workflow, or the local process's log file.")
    key: str = Field("", description="Canonical JSON of the join key; empty where the trigger has none.")
    parameters: dict[str, str] = Field(default_factory=dict)
    events: list[RunEvent] = Field(default_factory=list)
    attempts: int = Field(0, description="Tries so far.")
    reason: str | None = Field(None, description="A word for programs: why it waits or failed.")
    message: str | None = Field(None, description="A sentence for people.")
    firing_bytes: str | None = Field(None, description="The firing, base64, while it is queued.")

    @property
    def ended(self) -> bool:
        """Whether no later state is expected without a person's doing."""
        return self.state not in (RunState.QUEUED, RunState.STARTED)

    @property
    def is_local(self) -> bool:
        """Whether it runs as a process of a submitter's machine."""
        return self.target.startswith("flow:")

    def is_outdated(self, before: RunState | None) -> bool:
        """Whether this record, though behind that of `before`, says what was true earlier.

        A former owner of the partition writes `queued` before it knows that it has lost it: its own try had failed. But
        the new owner's Workflow has started, and once it is deleted nothing else keeps the firing from running again.
        """
        return self.state is RunState.QUEUED and before is RunState.STARTED and not self.is_local

    def firing_value(self) -> bytes:
        """The queued firing's bytes.

        Raises:
            RecordError: this run is not queued.
        """
        if self.firing_bytes is None:
            raise RecordError(f"the run of firing {self.firing} is {self.state}, so it holds no firing")
        return base64.b64decode(self.firing_bytes)

    def encode(self) -> bytes:
        """Write the record's bytes."""
        return self.model_dump_json(exclude_none=True).encode()

    @classmethod
    def decode(cls, value: bytes) -> Run:
        """Read what `encode` wrote.

        Raises:
            RecordError: it is damaged, or of a version that this release does not know.
        """
        try:
            return cls.model_validate_json(value)
        except ValidationError as error:
            raise RecordError(f"a run cannot be read: {error.errors()[0]['msg']}") from None

    def listing(self) -> dict[str, Any]:
        """The run as `headrace runs --json` prints it: without the firing's bytes."""
        return self.model_dump(mode="json", exclude_none=True, exclude={"firing_bytes"})
