"""A flow of a project whose steps keep what reached them, and that publishes an event of its own."""

import os

from metaflow import FlowSpec, Parameter, current, project, step, trigger
from metaflow.integrations import ArgoEvent

SUFFIX = os.environ["EVENT_SUFFIX"]


@project(name="shop")
@trigger(
    events=[
        {"name": f"one_event-{SUFFIX}", "parameters": {"window": "how_many_days"}},
        {"name": f"another_event-{SUFFIX}", "parameters": {"latest": "day"}},
    ]
)
class ObservedFlow(FlowSpec):
    """Two parameters, and what triggered the run."""

    latest = Parameter("latest", default="2023-05-01")
    window = Parameter("window", default=3)

    @step
    def start(self):
        """Keep what came."""
        events = {event.name: [event.id, event.timestamp.timestamp(), event.type] for event in current.trigger.events}
        self.seen = {"latest": self.latest, "window": self.window, "events": events}
        ArgoEvent(name=f"data_updated-{SUFFIX}").safe_publish(payload={"latest": self.latest})
        self.next(self.end)

    @step
    def end(self):
        """End."""


if __name__ == "__main__":
    ObservedFlow()
