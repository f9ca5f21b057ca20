"""What is to be written so that the registry says what the Sensors say."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.model.sensor import SensorRun
from headrace.model.trigger import RefusedTrigger, TriggerRecord
from headrace.stages.sensor import template_settings
from headrace.stages.sync import Held, plan
from tests.unit.stages.build import make_record

SENSOR = SensorRun(name="x", trigger="x", namespace="ml")


def ours(name: str = "ml/x", creation: str = "uid-1", **update: Any) -> TriggerRecord:
    """A trigger that a Sensor made."""
    fields = {"name": name, "creation": creation, "sensor": SENSOR, **update}
    return make_record({"events": ["a"]}).model_copy(update=fields)


def by_hand(name: str = "ml/x") -> TriggerRecord:
    return make_record({"events": ["a"]}).model_copy(update={"name": name})


def refused(why: str = "odd", name: str = "ml/x") -> RefusedTrigger:
    return RefusedTrigger(name=name, refused=why, source=f"Sensor {name}")


def outcome(found: list[Held], held: list[Held]) -> tuple[list[str], dict[str, bool], set[str]]:
    """Names to register, names to write (whether as refusals), names that are taken; only `ml` is watched."""
    done = plan({f.name: f for f in found}, {h.name: h for h in held}, lambda namespace: namespace == "ml")
    return [d.name for d in done.register], {n: h is not None for n, h in done.write.items()}, done.taken


@pytest.mark.parametrize(
    ("found", "held", "expected"),
    [
        ([], [], ([], {}, set())),
        ([ours()], [], (["ml/x"], {}, set())),
        ([ours()], [ours(generation=7, starts={"a": {"0": 5}}, deployed_ms=9)], ([], {}, set())),
        ([ours()], [ours(creation="uid-0")], (["ml/x"], {}, set())),
        ([ours(sensor=SENSOR.model_copy(update={"namespace": "other"}))], [ours()], (["ml/x"], {}, set())),
        ([ours()], [refused()], (["ml/x"], {}, set())),
        ([], [ours()], ([], {"ml/x": False}, set())),
        ([], [refused()], ([], {"ml/x": False}, set())),
        ([], [by_hand()], ([], {}, set())),
        ([], [ours("else/x")], ([], {}, set())),
        ([refused()], [], ([], {"ml/x": True}, set())),
        ([refused()], [refused()], ([], {}, set())),
        ([refused("worse")], [refused()], ([], {"ml/x": True}, set())),
        ([refused()], [ours()], ([], {"ml/x": True}, set())),
        ([ours()], [by_hand()], ([], {}, {"ml/x"})),
        ([refused()], [by_hand()], ([], {}, {"ml/x"})),
    ],
)
def test_the_registry_follows_the_sensors(
    found: list[Held], held: list[Held], expected: tuple[list[str], dict[str, bool], set[str]]
) -> None:
    assert outcome(found, held) == expected


@pytest.mark.parametrize(
    ("annotations", "settings"),
    [
        ({}, {}),
        ({"other/window": "1h", "headrace.dev/window": "6h"}, {"headrace.dev/window": "6h"}),
        ({"metaflow/tags": '["headrace.dev/window:6h","team:a","headrace.dev/key"]'}, {"headrace.dev/window": "6h"}),
        ({"metaflow/tags": '["headrace.dev/window:6h"]', "headrace.dev/window": "1h"}, {"headrace.dev/window": "1h"}),
        ({"metaflow/tags": "no JSON"}, {}),
        ({"metaflow/tags": "5"}, {}),
    ],
)
def test_a_templates_settings(annotations: dict[str, str], settings: dict[str, str]) -> None:
    assert template_settings(annotations) == settings
