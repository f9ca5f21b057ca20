"""Workflows that Headrace created, run: their steps see what the events held, and their events start other flows."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from tests.support.metaflow_team import Team
from tests.support.tenant import Bare, parameters_of

Workflow = dict[str, Any]


def started(team: Team, template: str) -> Workflow:
    """Return the one Workflow of a template once it is there."""

    def found() -> list[Workflow]:
        listed = team.tenant.workflows()
        return [workflow for workflow in listed if workflow["spec"]["workflowTemplateRef"]["name"] == template]

    team.tenant.engine.wait_until(lambda: len(found()) > 0, f"a Workflow of {template}")
    (workflow,) = found()
    return workflow


def test_steps_see_what_came_and_their_end_starts_the_next_flow(team: Team) -> None:
    tenant = team.tenant
    observed = team.deploy("observed_flow.py")
    downstream = team.deploy("downstream_flow.py")
    # The same flow in another branch of the project: nothing of this one's end concerns it.
    team.deploy("downstream_flow.py", METAFLOW_USER="somebody", USER="somebody")
    refresh = team.deploy("model_refresh_flow.py")
    one, another = tenant.event("one_event"), tenant.event("another_event")
    tenant.produce([Bare(one, b'{"how_many_days": 7}')])
    before_s = int(datetime.now(UTC).timestamp())
    sent = team.publish(another, payload={"day": "2026-05-01 {{workflow.name}}"}, ignore_errors=False)

    run = team.run_steps(started(team, observed))
    seen = team.seen(run)
    assert (seen["latest"], seen["window"]) == ("2026-05-01 {{workflow.name}}", 7)
    assert seen["events"][one][0] == f"{one}:0:0"
    event_id, time_s, kind = seen["events"][another]
    assert (event_id, kind) == (sent, "event")
    assert before_s <= time_s <= datetime.now(UTC).timestamp()

    # What a step published, and what Metaflow published when the last step had ended.
    refreshed = started(team, refresh)
    assert parameters_of(refreshed)["latest"] == '"2026-05-01 \\u007b\\u007bworkflow.name}}"'
    told = team.seen(team.run_steps(started(team, downstream)))
    assert told == {"event": "metaflow.shop.user.tester.ObservedFlow.end", "type": "run", "run": run, "its": seen}
    assert len(tenant.workflows()) == 3
