"""The schemas are what the models say, and what the code writes is valid against them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml
from jsonschema import Draft202012Validator, ValidationError

from headrace.model.dead_letter import Reason, dead_letter
from headrace.model.definition import Definition
from headrace.model.event import Event, Position
from headrace.model.firing import firing_of
from headrace.model.frame import Match, encode_frame, encode_tick
from headrace.model.run import Run, RunEvent, RunState
from headrace.model.trigger import TriggerRecord
from headrace.operations.schemas import schemas
from headrace.stages.route import compile_trigger
from tests.unit.stages.sensor_files import record_of, sensor

SCHEMAS = Path(__file__).parents[2] / "schemas"

TRIGGER = """
apiVersion: headrace.dev/v1
kind: Trigger
metadata: {name: model-refresh, namespace: ml}
spec:
  events:
    - {name: data_updated, filter: event.rows > 1000, key: event.region, parameters: {window: how_many_days}}
    - phase_of_the_moon
  window: 1h
  match: each
  run: {workflowTemplate: model-refresh, parameters: {tier: prod}}
"""


def validator(word: str) -> Draft202012Validator:
    schema = orjson.loads((SCHEMAS / f"{word}.schema.json").read_bytes())
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def trigger_record() -> TriggerRecord:
    return TriggerRecord(
        name="ml/model-refresh",
        creation="c" * 32,
        generation=2,
        spec=yaml.safe_load(TRIGGER)["spec"],
        starts={"data_updated": {"0": 7}, "phase_of_the_moon": {}},
        deployed_ms=1,
    )


def sensor_definition() -> Definition:
    return compile_trigger(record_of(sensor("one")), 3_600_000, 60_000).definition


def records() -> list[tuple[str, Any]]:
    definition = compile_trigger(trigger_record(), 3_600_000, 60_000).definition
    left = Event("a", "data_updated", 5, 0, 1, '{"rows":2000}')
    right = Event("b", "phase_of_the_moon", 6, 0, 2, "{}", {"h": "1"})
    firing = firing_of(definition, '"eu"', (left, right))
    run = Run(
        firing=firing.id,
        trigger=definition.trigger,
        state=RunState.STARTED,
        time_ms=9,
        fired_ms=6,
        target="workflowTemplate:model-refresh",
        run="ml/model-refresh-1",
        parameters={"window": "3"},
        events=[RunEvent(dependency="data_updated", id="a", name="data_updated", time_ms=5)],
    )
    letter = dead_letter("event", Reason.NOT_JSON, "no", Position("t", 0, 1), 5, value=b"x", headers=[("h", b"v")])
    return [
        ("trigger", yaml.safe_load(TRIGGER)),
        ("trigger", orjson.loads(trigger_record().encode())),
        (
            "frame",
            orjson.loads(encode_frame([Match(definition, left, (0,), '"eu"'), Match(definition, right, (1,), "")])),
        ),
        ("frame", orjson.loads(encode_tick(5))),
        ("firing", orjson.loads(firing.encode())),
        ("firing", orjson.loads(firing_of(sensor_definition(), "", (left,)).encode())),
        ("trigger", orjson.loads(record_of(sensor("one")).encode())),
        ("run", orjson.loads(run.encode())),
        ("run", run.listing()),
        ("deadletter", orjson.loads(letter.encode())),
    ]


def test_schemas_are_generated_from_the_models() -> None:
    written = {path.name: path.read_text() for path in SCHEMAS.glob("*.json")}
    assert written == schemas(), "run `make schemas`"


@pytest.mark.parametrize(("word", "value"), records(), ids=[f"{i}-{word}" for i, (word, _) in enumerate(records())])
def test_what_the_code_writes_is_valid(word: str, value: Any) -> None:
    validator(word).validate(value)


@pytest.mark.parametrize(("word", "value"), records(), ids=[f"{i}-{word}" for i, (word, _) in enumerate(records())])
def test_an_unknown_field_is_not_valid(word: str, value: Any) -> None:
    with pytest.raises(ValidationError):
        validator(word).validate({**value, "surprise": 1})
