"""A flow that writes the parameters that it got to a file, and fails where it is told to."""

import json
from pathlib import Path

from metaflow import FlowSpec, JSONType, Parameter, step


class ParametersFlow(FlowSpec):
    """Every kind of parameter that a payload may reach."""

    text = Parameter("text", default="none")
    days = Parameter("how-many-days", type=int, default=1)
    ratio = Parameter("ratio", type=float, default=0.5)
    dry = Parameter("dry", type=bool, default=False)
    settings = Parameter("settings", type=JSONType, default="{}")
    output = Parameter("output", required=True)
    fails = Parameter("fails", type=bool, default=False)

    @step
    def start(self):
        """Write what we got."""
        got = [self.text, self.days, self.ratio, self.dry, self.settings]
        Path(self.output).write_text(json.dumps(got))
        print("the flow says: grüß dich")
        self.next(self.end)

    @step
    def end(self):
        """Fail if asked to."""
        if self.fails:
            raise RuntimeError("asked to fail")


if __name__ == "__main__":
    ParametersFlow()
