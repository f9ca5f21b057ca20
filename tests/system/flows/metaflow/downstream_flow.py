"""A flow that begins when another one of the same project and branch has ended, and keeps what it is told of that."""

from metaflow import FlowSpec, current, project, step, trigger_on_finish


@project(name="shop")
@trigger_on_finish(flow="ObservedFlow")
class DownstreamFlow(FlowSpec):
    """It looks into the run that triggered it."""

    @step
    def start(self):
        """Keep what that run kept."""
        self.seen = {
            "event": current.trigger.event.name,
            "type": current.trigger.event.type,
            "run": current.trigger.run.pathspec,
            "its": current.trigger.run.data.seen,
        }
        self.next(self.end)

    @step
    def end(self):
        """End."""


if __name__ == "__main__":
    DownstreamFlow()
