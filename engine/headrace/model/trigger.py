"""The trigger: what a person writes, and the record that `headrace.triggers` keeps of it."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, Literal

import orjson
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, field_validator, model_validator
from pydantic.json_schema import SkipJsonSchema

from headrace.model import bounds
from headrace.model.errors import EventNameError, TriggerError
from headrace.model.json_text import check_finite
from headrace.model.names import check_event_name
from headrace.model.sensor import SensorRun
from headrace.model.times import duration_ms


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


def _duration(value: Any) -> Any:
    if isinstance(value, str):
        try:
            duration_ms(value)
        except TriggerError as error:
            raise ValueError(str(error)) from None
    return value


Duration = Annotated[str, BeforeValidator(_duration), Field(pattern=r"^([0-9]+(ms|s|m|h|d))+$", examples=["1h30m"])]
Cel = Annotated[str, Field(min_length=1, max_length=4096)]


class Dependency(_Strict):
    """One event that the trigger waits for."""

    name: str = Field(description="The event's name, which is its topic's.")
    filter: Cel | None = Field(None, description="CEL: the event counts only where this is true.")
    key: Cel | None = Field(None, description="CEL: events join only where this value is the same.")
    parameters: dict[str, str] | None = Field(
        None, description="Workflow parameter <- payload field (a dotted path, or CEL after '=')."
    )

    @field_validator("name")
    @classmethod
    def _legal(cls, name: str) -> str:
        try:
            return check_event_name(name)
        except EventNameError as error:
            raise ValueError(str(error)) from None


class Run(_Strict):
    """What a firing starts: exactly one of the three targets, and constant parameters."""

    workflow_template: str | None = Field(None, alias="workflowTemplate", min_length=1)
    cluster_workflow_template: str | None = Field(None, alias="clusterWorkflowTemplate", min_length=1)
    flow: str | None = Field(None, description="A Metaflow file to run as a local process.", min_length=1)
    parameters: dict[str, JsonValue] = Field(default_factory=dict)

    @field_validator("parameters")
    @classmethod
    def _writable(cls, parameters: dict[str, JsonValue]) -> dict[str, JsonValue]:
        for name, value in parameters.items():
            try:
                check_finite(value)
                orjson.dumps(value)
            except TypeError as error:
                raise ValueError(f"parameter {name} cannot be passed on ({error}); write it as text") from None
        return parameters

    @model_validator(mode="after")
    def _one_target(self) -> Run:
        named = [t for t in (self.workflow_template, self.cluster_workflow_template, self.flow) if t is not None]
        if len(named) != 1:
            raise ValueError("needs exactly one of workflowTemplate, clusterWorkflowTemplate and flow")
        return self

    @property
    def kind(self) -> Literal["workflowTemplate", "clusterWorkflowTemplate", "flow"]:
        """Which of the three targets this is."""
        if self.workflow_template is not None:
            return "workflowTemplate"
        return "flow" if self.flow is not None else "clusterWorkflowTemplate"

    @property
    def target(self) -> str:
        """The template's name, or the flow file's path."""
        target = self.workflow_template or self.cluster_workflow_template or self.flow
        assert target is not None
        return target


def _event_names(value: Any) -> Any:
    if isinstance(value, list):
        return [{"name": item} if isinstance(item, str) else item for item in value]
    return value


def _later(field: str) -> Any:
    def refuse(value: Any) -> Any:
        raise ValueError(f"{field} is not supported by this version of Headrace")

    return BeforeValidator(refuse)


class TriggerSpec(_Strict):
    """The rule itself."""

    events: Annotated[
        list[Dependency], BeforeValidator(_event_names, json_schema_input_type=list[Dependency | str])
    ] = Field(min_length=1, max_length=bounds.DEPENDENCIES_PER_TRIGGER_MAX)
    window: Duration | None = Field(None, description="Longest span between the events of one firing; default 1h.")
    match: Literal["latest", "each"] = "latest"
    require: Literal["all"] = "all"
    deadline: SkipJsonSchema[Annotated[None, _later("deadline")]] = Field(None, exclude=True)
    run: Run
    limits: SkipJsonSchema[Annotated[None, _later("limits")]] = Field(None, exclude=True)
    max_age: Duration | None = Field(None, alias="maxAge", description="Older firings become dead letters.")
    paused: bool = Field(False, description="Hold firings; they start once a later deployment says false.")

    @field_validator("match", mode="before")
    @classmethod
    def _no_collect(cls, value: Any) -> Any:
        if value == "collect":
            raise ValueError("match: collect is not supported by this version of Headrace (latest and each are)")
        return value

    @field_validator("require", mode="before")
    @classmethod
    def _only_all(cls, value: Any) -> Any:
        if value != "all":
            raise ValueError("require other than all is not supported by this version of Headrace")
        return value

    def dependency_names(self) -> list[str]:
        """Name each dependency by its event; a repeated event's second dependency is `name#2`, and so on."""
        seen: dict[str, int] = {}
        names = []
        for dependency in self.events:
            count = seen[dependency.name] = seen.get(dependency.name, 0) + 1
            names.append(dependency.name if count == 1 else f"{dependency.name}#{count}")
        return names

    def signature(self, window_ms: int) -> str:
        """Hash what pending events depend on: while it stays the same, a changed trigger keeps them."""
        parts = [[d.name, d.filter, d.key] for d in self.events]
        text = orjson.dumps([parts, window_ms])
        return hashlib.sha256(text).hexdigest()[:16]


class Metadata(_Strict):
    """Where the trigger is found."""

    name: str = Field(min_length=1, max_length=253)
    namespace: str | None = None


class TriggerFile(_Strict):
    """A trigger as a file holds it."""

    api_version: Literal["headrace.dev/v1"] = Field(alias="apiVersion")
    kind: Literal["Trigger"]
    metadata: Metadata
    spec: TriggerSpec


class TriggerRecord(_Strict):
    """A deployed trigger: the value in `headrace.triggers` under the key `namespace/name`."""

    version: Literal[1] = 1
    name: str = Field(description="namespace/name")
    creation: str = Field(description="Made anew when a deleted trigger is deployed again; part of firing ids.")
    generation: int = Field(ge=1, description="Counts the deployments of this creation.")
    spec: TriggerSpec
    starts: dict[str, dict[str, int]] = Field(
        description="Event topic -> partition -> first offset that counts; a partition not named counts from 0."
    )
    deployed_ms: int = Field(description="When it was deployed, milliseconds since 1970.")
    resumed_ms: dict[str, int] = Field(
        default_factory=dict,
        description="Event topic -> when `headrace resume` last let it go on, milliseconds since 1970.",
    )
    drop_held_ms: int | None = Field(
        None, description="Firings from before this moment that have not started are dropped; milliseconds since 1970."
    )
    source: str | None = Field(None, description="Where the definition came from, for people.")
    sensor: SensorRun | None = Field(None, description="The Workflow as a Metaflow Sensor describes it.")

    def encode(self) -> bytes:
        """Write the record's bytes."""
        return self.model_dump_json(by_alias=True, exclude_none=True).encode()


class RefusedTrigger(_Strict):
    """A Sensor that cannot be a trigger. It stands in the trigger's place, where people look for it."""

    version: Literal[1] = 1
    name: str = Field(description="namespace/name")
    refused: str = Field(description="Why it cannot be a trigger.")
    source: str = Field(description="Where the definition came from, for people.")

    def encode(self) -> bytes:
        """Write the record's bytes."""
        return self.model_dump_json().encode()
