"""A flow as the documentation of `@trigger` shows it: one event, nothing passed."""

import os

from metaflow import FlowSpec, step, trigger

SUFFIX = os.environ["EVENT_SUFFIX"]


@trigger(event=f"data_updated-{SUFFIX}")
class FreshDataFlow(FlowSpec):
    """Two steps that do nothing."""

    @step
    def start(self):
        """Begin."""
        self.next(self.end)

    @step
    def end(self):
        """End."""


if __name__ == "__main__":
    FreshDataFlow()
