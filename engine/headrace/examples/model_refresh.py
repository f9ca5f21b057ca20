"""Refreshes one region's model when enough new data came. One event starts it, and brings the parameters."""

from metaflow import FlowSpec, Parameter, step


class ModelRefresh(FlowSpec):
    """Trains on the days of data that the event names."""

    region = Parameter("region", help="Whose model.", required=True)
    rows = Parameter("rows", help="How many rows are new.", type=int, required=True)
    how_many_days = Parameter("how_many_days", help="How far back to train.", type=int, default=7)
    tier = Parameter("tier", help="Where the model will serve.", default="staging")

    @step
    def start(self) -> None:
        """Train the model."""
        self.rows_per_day = self.rows / self.how_many_days
        print(f"training the {self.tier} model of {self.region}: {self.rows} rows, {self.how_many_days} days")
        self.next(self.end)

    @step
    def end(self) -> None:
        """Publish it."""
        print(f"the {self.tier} model of {self.region} is fresh: {self.rows_per_day:.0f} rows a day")


if __name__ == "__main__":
    ModelRefresh()
