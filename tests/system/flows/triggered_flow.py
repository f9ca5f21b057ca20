"""A flow with triggers, a configuration, a dataclass, a neighbour and noise: all that inspection must bear."""

from __future__ import annotations

import dataclasses
from typing import Any

from flow_neighbour import DEFAULT_REGION
from metaflow import Config, FlowSpec, Parameter, project, step, trigger

print("noise on standard output")


@dataclasses.dataclass
class Window:
    """Needs its module to be found by name."""

    days: int = 7


def lunar_event(context: Any) -> dict[str, Any]:
    """Name the event only when the flow is deployed."""
    return {"name": f"{context.flow_name}.moon", "parameters": {"Phase": "moon_phase"}}


@trigger(events=["data_updated", lunar_event])
@project(name="forecast")
class TriggeredFlow(FlowSpec):
    """Waits for two events."""

    settings = Config("settings", default_value={"rows": 5})
    region = Parameter("region", default=DEFAULT_REGION)
    phase = Parameter("Phase", default="new")
    rows = Parameter("rows", default=settings.rows)

    @step
    def start(self) -> None:
        """Go on."""
        self.next(self.end)

    @step
    def end(self) -> None:
        """Nothing more."""


if __name__ == "__main__":
    TriggeredFlow()
