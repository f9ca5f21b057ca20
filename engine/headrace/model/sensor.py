"""What a Sensor says beyond the rule itself: the Workflow that it creates, and how events fill its parameters."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SensorParameter(_Part):
    """How one event fills one parameter of the Workflow. Later ones stand above earlier ones."""

    parameter: str = Field(description="The Workflow's parameter.")
    event: str = Field(description="The event that fills it.")
    field: str | None = Field(None, description="The payload's field; absent: the whole payload.")
    quoted: bool = Field(False, description="Whether JSON other than a string travels inside a JSON string.")
    default: str = Field(description="Passed as it is where the event has no such field.")


class Reset(_Part):
    """When waiting events stop counting: those on either side of such an instant never join."""

    cron: str = Field(description="Minute, hour, day of the month, month, day of the week.")
    timezone: str = Field("UTC", description="An IANA name, such as Europe/Berlin.")


class SensorRun(_Part):
    """The Workflow that a Sensor's trigger creates, and what an event needs to count."""

    name: str = Field(description="The Sensor's name.")
    trigger: str = Field(description="The name of the trigger inside the Sensor.")
    namespace: str = Field(description="Where the Workflow starts.")
    labels: dict[str, str] = Field(default_factory=dict, description="Of the Workflow.")
    annotations: dict[str, str] = Field(default_factory=dict, description="Of the Workflow.")
    arguments: dict[str, str] = Field(
        default_factory=dict, description="The Workflow's parameters, in order, with the values that no event changes."
    )
    parameters: list[SensorParameter] = Field(default_factory=list)
    requires: dict[str, list[str]] = Field(
        default_factory=dict, description="Event -> fields that its payload must have; without them it does not count."
    )
    resets: list[Reset] = Field(default_factory=list)
