"""The demo's plan names, by hand, what must come of its events: the stages, fed with them, must say the same."""

from __future__ import annotations

from datetime import date
from random import Random

import orjson
import pytest

from headrace.cli.demo.command import EXAMPLES, TRIGGER_FILES
from headrace.cli.demo.plan import DAYS_DEFAULT, TIER, ExpectedRun, Plan, PlannedEvent, script
from headrace.cli.demo.stream import SCENE_S, endless
from headrace.edges.trigger_file import load_triggers
from headrace.model.event import Event, ReadEvent
from headrace.model.firing import Firing
from headrace.model.frame import Frame, Tick
from headrace.model.trigger import TriggerRecord
from headrace.stages.bind import Target, bind
from headrace.stages.join import Joined, JoinState
from headrace.stages.route import Routes, compile_trigger

BEGIN_MS = 1_780_000_000_000
TODAY = date(2026, 11, 23)
DEFAULT_WINDOW_MS, LATENESS_MS = 60_000, 60_000
# What the flows declare, beside the parameters that have defaults.
TEXTS = {"region", "day", "price_list", "tier"}
DEFAULTS = {"demo/model-refresh": {"how_many_days": DAYS_DEFAULT, "tier": "staging"}, "demo/daily-margin": {}}


class Decisions:
    """The routing and joining of a stream of events, without Kafka: one partition, a tick before each event."""

    def __init__(self) -> None:
        paths = [EXAMPLES / name for name in TRIGGER_FILES]
        loaded = [trigger for path in paths for trigger in load_triggers(path.read_text(), str(path), path.parent)]
        records = [
            TriggerRecord(
                name=f"{trigger.file.metadata.namespace}/{trigger.file.metadata.name}",
                creation="creation-1",
                generation=1,
                spec=trigger.file.spec,
                starts={},
                deployed_ms=0,
            )
            for trigger in loaded
        ]
        self._routes = Routes(compile_trigger(record, DEFAULT_WINDOW_MS, LATENESS_MS) for record in records)
        self._join = JoinState(0)
        self._offset = 0
        self._times: dict[str, int] = {}
        self.firings: dict[str, Firing] = {}
        self.set_aside: dict[str, str] = {}

    def publish(self, planned: PlannedEvent) -> None:
        """Let an event come at its time, its label being its id."""
        now_ms = BEGIN_MS + int(planned.at_s * 1000)
        self._apply(Tick(now_ms))
        time_ms = self._times.setdefault(planned.label, now_ms - int(planned.ago_s * 1000))
        payload = orjson.dumps(planned.payload).decode()
        event = Event(planned.label, planned.name, time_ms, 0, self._offset, payload)
        routed = self._routes.route(ReadEvent(event, dict(planned.payload), {}))
        assert not routed.rejected
        self._fire(routed.firings)
        if routed.matches:
            self._apply(Frame(tuple(routed.matches)))

    def _apply(self, record: Tick | Frame) -> Joined:
        joined = self._join.apply(self._offset, record)
        self._offset += 1
        self._fire(joined.firings)
        self.set_aside.update({letter.event_id or "": str(letter.reason) for letter in joined.dead_letters})
        return joined

    def _fire(self, firings: list[Firing]) -> None:
        # What has one id becomes one run: the submitter sees to that.
        self.firings.update({firing.id: firing for firing in firings})

    @property
    def runs(self) -> list[ExpectedRun]:
        return sorted(map(_run, self.firings.values()), key=_identity)

    @property
    def waiting(self) -> set[str]:
        return {event.id for head in self._join.heads.values() for events in head.pending for event in events}


def _run(firing: Firing) -> ExpectedRun:
    trigger = firing.definition.trigger
    bound = bind(firing, Target(frozenset(), metaflow=True, local=True))
    assert isinstance(bound, dict)
    typed = {name: text if name in TEXTS else orjson.loads(text) for name, text in bound.items()}
    return ExpectedRun(trigger, tuple(event.id for event in firing.events), {**DEFAULTS[trigger], **typed})


def _identity(run: ExpectedRun) -> tuple[str, tuple[str, ...]]:
    return run.trigger, run.labels


def decide(plans: list[Plan]) -> Decisions:
    """Publish the events of all plans in the order of their times."""
    decisions = Decisions()
    for event in sorted((event for plan in plans for event in plan.events), key=lambda event: event.at_s):
        decisions.publish(event)
    return decisions


def test_the_stages_decide_the_script_as_its_author_says() -> None:
    plan = script(TODAY)
    decisions = decide([plan])
    assert decisions.runs == sorted(plan.runs, key=_identity)
    assert decisions.waiting == plan.waiting
    assert decisions.set_aside == plan.set_aside


def test_the_script_shows_what_it_promises() -> None:
    plan = script(TODAY)
    labels = [event.label for event in plan.events]
    assert len(plan.runs) >= 20
    assert sum(len(run.labels) == 2 for run in plan.runs) >= 5
    assert len(labels) > len(set(labels)), "nothing is sent twice"
    assert {event.after for event in plan.events if event.after} <= set(labels)
    assert all(run.parameters.get("tier", TIER) == TIER for run in plan.runs)


@pytest.mark.parametrize("seed", range(20))
def test_the_stages_decide_the_gentle_stream_after_the_script_as_it_says(seed: int) -> None:
    plan = script(TODAY)
    scenes = endless(plan.ends_s + SCENE_S, TODAY, Random(seed))
    plans = [plan, *(next(scenes) for _ in range(60))]
    expected = [run for plan in plans for run in plan.runs]
    assert len(expected) > 40
    assert decide(plans).runs == sorted(expected, key=_identity)
