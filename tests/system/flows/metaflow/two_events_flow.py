"""A flow of two events, each of which fills one parameter."""

import os

from metaflow import FlowSpec, Parameter, step, trigger

SUFFIX = os.environ["EVENT_SUFFIX"]


@trigger(
    events=[
        {"name": f"one_event-{SUFFIX}", "parameters": {"window": "how_many_days"}},
        {"name": f"another_event-{SUFFIX}", "parameters": {"latest": "timestamp"}},
    ]
)
class TwoEventsFlow(FlowSpec):
    """Two parameters with defaults."""

    latest = Parameter("latest", default="2023-05-01")
    window = Parameter("window", default=int(os.environ.get("WINDOW_DEFAULT", "3")))

    @step
    def start(self):
        """Begin."""
        self.next(self.end)

    @step
    def end(self):
        """End."""


if __name__ == "__main__":
    TwoEventsFlow()
