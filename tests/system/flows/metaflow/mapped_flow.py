"""A flow with a parameter of each type, one that is required, and a mapping for some of them."""

import os

from metaflow import FlowSpec, JSONType, Parameter, step, trigger

SUFFIX = os.environ["EVENT_SUFFIX"]


@trigger(
    event={
        "name": f"measured-{SUFFIX}",
        "parameters": {"region": "place", "count": "count", "ratio": "of", "dry": "dry", "settings": "settings"},
    }
)
class MappedFlow(FlowSpec):
    """All but one are mapped."""

    region = Parameter("region", required=True, type=str)
    count = Parameter("count", default=1)
    ratio = Parameter("ratio", default=0.5)
    dry = Parameter("dry", default=False, type=bool)
    settings = Parameter("settings", default='{"a": 1}', type=JSONType)
    unmapped = Parameter("unmapped", default="as it was")

    @step
    def start(self):
        """Begin."""
        self.next(self.end)

    @step
    def end(self):
        """End."""


if __name__ == "__main__":
    MappedFlow()
