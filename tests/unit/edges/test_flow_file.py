"""What a flow declares, as a trigger: Metaflow's rules for mappings, names of events, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from headrace.edges.local.flow_file import flow_trigger, load_flow
from headrace.edges.local.flow_inspection import FlowInspection
from headrace.edges.trigger_file import LoadedTrigger
from headrace.model.errors import TriggerError

PATH = Path("/flows/model_refresh.py")


def loaded(*declared: dict[str, Any], parameters: tuple[str, ...] = ("latest", "Window"), **more: Any) -> LoadedTrigger:
    inspection = FlowInspection("Model_RefreshFlow", frozenset(parameters), declared, **more)
    return flow_trigger(inspection, PATH, "model_refresh.py:7")


def on(*events: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"decorator": "trigger", "triggers": list(events), **more}


def after(*flows: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"decorator": "trigger_on_finish", "triggers": list(flows), **more}


def events_of(trigger: LoadedTrigger) -> list[tuple[str, dict[str, str] | None]]:
    return [(dependency.name, dependency.parameters) for dependency in trigger.file.spec.events]


def test_one_event_without_a_mapping() -> None:
    trigger = loaded(on({"name": "data_updated"}))
    assert events_of(trigger) == [("data_updated", None)]
    assert (trigger.file.metadata.name, trigger.file.metadata.namespace) == ("modelrefreshflow", None)
    assert (trigger.file.spec.run.flow, trigger.directory) == ("model_refresh.py", Path("/flows"))
    assert (trigger.source, trigger.note) == ("model_refresh.py:7", None)


def test_mappings_find_parameters_whatever_their_case() -> None:
    trigger = loaded(
        on({"name": "one", "parameters": {"window": "how_many_days"}}, {"name": "two", "parameters": {"LATEST": "at"}})
    )
    assert events_of(trigger) == [("one", {"Window": "how_many_days"}), ("two", {"latest": "at"})]


def test_an_empty_mapping_is_none() -> None:
    assert events_of(loaded(on({"name": "e", "parameters": {}}))) == [("e", None)]


def test_trigger_on_finish_waits_for_the_end_events_and_takes_no_parameters() -> None:
    trigger = loaded(after({"flow": "First"}, {"flow": "Second", "project": "p", "branch": "prod.x"}))
    assert events_of(trigger) == [("metaflow.First.end", {}), ("metaflow.p.prod.x.Second.end", {})]
    assert trigger.note is not None
    assert "metaflow.First.end and metaflow.p.prod.x.Second.end" in trigger.note
    assert "local runs publish no such event" in trigger.note


def test_trigger_on_finish_belongs_to_the_flow_s_own_project() -> None:
    trigger = loaded(after({"flow": "First"}), project="forecast", branch="user.alice")
    assert events_of(trigger) == [("metaflow.forecast.user.alice.First.end", {})]


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ((), "has neither @trigger nor @trigger_on_finish"),
        ((on({"name": "e"}), after({"flow": "First"})), "has both @trigger and @trigger_on_finish"),
        (({"decorator": "trigger", "error": "@trigger cannot be evaluated: no"},), "@trigger cannot be evaluated: no"),
        ((on({"name": "e"}, options=["reset_at", "x"]),), "@trigger has the options reset_at, x, which local runs do"),
        ((after({"flow": "First"}, options=["reset_at"]),), "@trigger_on_finish has the options reset_at"),
        ((on({"name": "no topic!"}),), "'no topic!' cannot be an event's name"),
        ((on({"name": "e" * 250}),), "has 250 characters"),
        ((on({"name": "e", "parameters": {"rows": "n"}}),), r"to 'rows', which is none of its parameters \(latest, wi"),
        (
            (on({"name": "e", "parameters": {"latest": "a.b"}}),),
            "maps the field 'a.b' of e to 'latest'; Metaflow allow",
        ),
        ((on({"name": "e", "parameters": {"latest": "=1"}}),), "maps the field '=1' of e"),
        (
            (on({"name": "e", "parameters": {"latest": "a"}}, {"name": "f", "parameters": {"Latest": "b"}}),),
            "maps the field 'b' of f to 'Latest', which is mapped twice",
        ),
        ((after({"flow": "First", "project": "p"}),), "names only one of project and project_branch for First"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(declared: tuple[dict[str, Any], ...], message: str) -> None:
    with pytest.raises(TriggerError, match=message) as refusal:
        loaded(*declared)
    assert str(refusal.value).startswith("model_refresh.py:7: ")
    assert "\n" not in str(refusal.value)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(TriggerError, match=r"gone\.py cannot be read: it does not exist"):
        load_flow(str(tmp_path / "gone.py"))
    (tmp_path / "folder.py").mkdir()
    with pytest.raises(TriggerError, match=r"folder\.py cannot be read: it is no file"):
        load_flow(str(tmp_path / "folder.py"))
