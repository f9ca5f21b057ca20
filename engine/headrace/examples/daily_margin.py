"""Works out one region's margin of one day. It needs that day's orders and that day's prices: two events."""

from metaflow import FlowSpec, Parameter, step


class DailyMargin(FlowSpec):
    """Joins what two pipelines loaded."""

    region = Parameter("region", help="Whose margin.", required=True)
    day = Parameter("day", help="Of which day, YYYY-MM-DD.", required=True)
    orders = Parameter("orders", help="How many orders were loaded.", type=int, required=True)
    price_list = Parameter("price_list", help="The price list's version.", required=True)
    unit_margin = Parameter("unit_margin", help="Price less cost of one order.", type=float, required=True)

    @step
    def start(self) -> None:
        """Multiply."""
        self.margin = self.orders * self.unit_margin
        self.next(self.end)

    @step
    def end(self) -> None:
        """Tell."""
        print(f"{self.region}, {self.day}: {self.orders} orders by {self.price_list} bring {self.margin:.2f}")


if __name__ == "__main__":
    DailyMargin()
