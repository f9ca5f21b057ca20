"""Figures: ratios of each repetition to its own baseline, and how they stand to their aims."""

from __future__ import annotations

import json

import pytest

from headrace.bench.figures import Aim, Figure, Sample, Skipped, percentile
from headrace.bench.report import document, table

SLOWED = Figure(
    "pairs",
    "pairs to Workflows",
    "/s",
    # In the second repetition something else slowed the machine down, for both alike.
    (Sample(800, 1000), Sample(210, 300), Sample(900, 1000)),
    "bare creation",
    Aim(0.9, 0.75),
)


def test_a_ratio_is_the_median_over_repetitions_not_the_ratio_of_medians() -> None:
    assert SLOWED.reached == 0.8
    assert SLOWED.spread == (0.7, 0.9)
    assert SLOWED.measured / (SLOWED.baseline_value or 0) == 0.8


def test_without_a_baseline_the_figure_itself_is_held_against_the_aim() -> None:
    figure = Figure("publisher", "one call", "µs", (Sample(20), Sample(40), Sample(25)), "", Aim(30, None, True))
    assert (figure.reached, figure.spread, figure.verdict) == (25, (20, 40), "met")


@pytest.mark.parametrize(
    ("aim", "reached", "verdict"),
    [
        (Aim(0.9, 0.75), 0.9, "met"),
        (Aim(0.9, 0.75), 0.89, "least met"),
        (Aim(0.9, 0.75), 0.74, "missed"),
        (Aim(1.5, lower_is_better=True), 1.5, "met"),
        (Aim(1.5, lower_is_better=True), 1.51, "missed"),
    ],
)
def test_verdicts(aim: Aim, reached: float, verdict: str) -> None:
    assert aim.verdict(reached) == verdict


def test_percentiles() -> None:
    values = [float(number) for number in range(100, 0, -1)]
    assert (percentile(values, 0.5), percentile(values, 0.99), percentile([3.0], 0.99)) == (51.0, 100.0, 3.0)


def test_the_table_has_a_line_for_each_result() -> None:
    _, first, second = table([SLOWED, Skipped("join-updates", "there is no JDK")]).splitlines()
    assert first.split("  ")[0] == "pairs" and "0.80 (0.70-0.90)" in first and first.endswith("least met")
    assert second.startswith("join-updates") and "skipped: there is no JDK" in second


def test_the_document_says_when_where_and_what() -> None:
    written = json.loads(document([SLOWED], "abc"))
    assert written["commit"] == "abc" and written["machine"]["cpus"] >= 1 and written["versions"]["headrace"]
    (result,) = written["results"]
    assert result["samples"] == [[800, 1000], [210, 300], [900, 1000]]
    assert (result["ratio"], result["verdict"]) == (0.8, "least met")
