"""Trigger files: what is wrong is named with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from headrace.edges.trigger_file import load_triggers
from headrace.model.errors import TriggerError

GOOD = """\
apiVersion: headrace.dev/v1
kind: Trigger
metadata: {name: model-refresh, namespace: ml}
spec:
  events:
    - data_updated
    - name: phase_of_the_moon
      key: event.region
  window: 1h30m
  run:
    workflowTemplate: model-refresh
    parameters: {since: 2026-01-31, rows: 5}
"""


def refusal(text: str) -> str:
    with pytest.raises(TriggerError) as caught:
        load_triggers(text, "t.yaml", Path("/"))
    return str(caught.value)


def test_a_good_file() -> None:
    one, two = load_triggers(GOOD + "---\n" + GOOD.replace("model-refresh", "other"), "t.yaml", Path("/"))
    assert [d.name for d in one.file.spec.events] == ["data_updated", "phase_of_the_moon"]
    assert one.file.spec.run.parameters == {"since": "2026-01-31", "rows": 5}, "dates stay what was written"
    assert (one.source, two.source) == ("t.yaml:1", "t.yaml:14")


@pytest.mark.parametrize(
    ("before", "after", "line", "word"),
    [
        ("      key: event.region", "      kye: event.region", 8, "kye"),
        ("  window: 1h30m", "  window: soon", 9, "soon"),
        ("  window: 1h30m", "  widnow: 1h", 9, "widnow"),
        ("  window: 1h30m", "  match: collect", 9, "collect"),
        ("  window: 1h30m", "  require: any", 9, "require"),
        ("  window: 1h30m", "  deadline: {after: 30m}", 9, "deadline"),
        ("  window: 1h30m", "  limits: {rate: 10/s}", 9, "limits"),
        ("    - data_updated", "    - data updated", 6, "data updated"),
        ("kind: Trigger", "kind: Tigger", 2, "Trigger"),
        ("    workflowTemplate: model-refresh", "    flow: a.py\n    workflowTemplate: b", 10, "exactly one"),
    ],
)
def test_a_mistake_is_named_with_its_line(before: str, after: str, line: int, word: str) -> None:
    assert before in GOOD
    message = refusal(GOOD.replace(before, after))
    assert message.startswith(f"t.yaml:{line}: "), message
    assert word in message
    assert "\n" not in message


def test_every_mistake_is_named_in_the_order_of_the_file() -> None:
    text = GOOD.replace("      key:", "      kye:").replace("  window: 1h30m", "  widnow: 1h30m")
    assert [line.split(" ")[0] for line in refusal(text).splitlines()] == ["t.yaml:8:", "t.yaml:9:"]


def test_what_is_missing_is_named() -> None:
    assert "lacks run" in refusal(GOOD[: GOOD.index("  run:")])


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n"])
def test_an_empty_file_is_refused(text: str) -> None:
    assert "no trigger" in refusal(text)


def test_no_yaml() -> None:
    assert refusal("a: [1,\nb: 2").startswith("t.yaml:")


def test_a_key_that_stands_twice_is_refused() -> None:
    assert "t.yaml:4: the key metadata stands twice" in refusal(GOOD.replace("spec:", "metadata: {name: b}\nspec:"))
