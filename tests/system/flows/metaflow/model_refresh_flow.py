"""A flow whose parameters the fields of the same names fill."""

import os

from metaflow import FlowSpec, Parameter, step, trigger

SUFFIX = os.environ["EVENT_SUFFIX"]


@trigger(event=f"{os.environ.get('EVENT_WORD', 'data_updated')}-{SUFFIX}")
class ModelRefreshFlow(FlowSpec):
    """Two parameters with defaults."""

    latest = Parameter("latest", default="2023-05-01")
    window = Parameter("window", default=3)

    @step
    def start(self):
        """Begin."""
        self.next(self.end)

    @step
    def end(self):
        """End."""


if __name__ == "__main__":
    ModelRefreshFlow()
