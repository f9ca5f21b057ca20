"""A flow whose step says that it runs, and then waits until it is killed or a file appears."""

import os
import time
from pathlib import Path

from metaflow import FlowSpec, Parameter, step


class WaitingFlow(FlowSpec):
    """Writes its step's process id to `pid_file`, and ends when `until` exists."""

    pid_file = Parameter("pid_file", required=True)
    until = Parameter("until", required=True)

    @step
    def start(self):
        """Wait in the step's own process, which is not the flow's."""
        unfinished = Path(self.pid_file + ".new")
        unfinished.write_text(f"{os.getpid()} {os.getppid()}")
        unfinished.rename(self.pid_file)
        while not Path(self.until).exists():
            time.sleep(0.02)
        self.next(self.end)

    @step
    def end(self):
        """Nothing more."""


if __name__ == "__main__":
    WaitingFlow()
