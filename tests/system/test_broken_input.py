"""Whatever is written to event topics, files and commands: nothing stops, nothing is lost, each fault is reported."""

from __future__ import annotations

import base64
import json
import time
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from headrace.model.times import instant_text
from tests.support.engine import Row, here
from tests.support.kafka import DEADLINE_S, KafkaServer, publish
from tests.support.tenant import Bare, Tenant, parameters_of

TWO_MEBIBYTES = 2 * 1024 * 1024
TOPIC_BYTES_MAX = 4 * 1024 * 1024


def value_of(letter: Row) -> bytes | None:
    return base64.b64decode(letter["value"]) if "value" in letter else None


def by_reason(letters: list[Row]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for letter in letters:
        found.setdefault(letter["reason"], []).append(letter)
    return found


def test_records_that_are_no_events_become_dead_letters_and_stop_nothing(tenant: Tenant) -> None:
    tenant.template("flow", {"n": None, "m": None})
    event, other = tenant.event("raw"), tenant.event("other")
    topic = NewTopic(event, 1, 1, config={"max.message.bytes": str(TOPIC_BYTES_MAX)})
    admin = AdminClient({**tenant.client})
    admin.create_topics([topic])[event].result(DEADLINE_S)
    tenant.deploy(
        tenant.trigger("single", [event], "flow"),
        tenant.trigger("pair", [{"name": event, "key": "event.k"}, {"name": other, "key": "event.k"}], "flow"),
    )
    garbage, array, text = b"\xff\xfe{no json", b'[{"n": 1}]', b'"text"'
    huge = json.dumps({"n": "x" * TWO_MEBIBYTES}).encode()
    ahead = instant_text(time.time_ns() // 1_000_000 + 3_600_000).encode()
    records = [
        Bare(event, garbage, [("origin", b"pipeline-7")]),
        Bare(event, array),
        Bare(event, text),
        Bare(event, huge),
        Bare(event, None),
        Bare(event, b'{"n": 1, "k": 1}', [("ce_time", b"yesterday")]),
        Bare(event, b'{"n": 2, "k": 1}', [("ce_time", ahead)]),
        # The single-event trigger has no use for the key that is missing; the other one cannot do without it.
        Bare(event, b'{"n": 3}'),
        Bare(event, b'{"n": 4, "k": 1}'),
        Bare(other, b'{"m": 5, "k": 1}'),
    ]
    before = tenant.engine.metrics("route")
    tenant.produce(records)
    tenant.settle(event, other)

    started = sorted(sorted(parameters_of(workflow).items()) for workflow in tenant.workflows())
    assert started == [[("m", "5"), ("n", "4")], [("n", "3")], [("n", "4")]]
    letters = by_reason(tenant.dead_letters())
    assert {reason: [letter["offset"] for letter in found] for reason, found in letters.items()} == {
        "not-json": [0, 4],
        "not-an-object": [1, 2],
        "payload-too-large": [3],
        "bad-time": [5],
        "from-the-future": [6],
        "bad-key": [7],
    }
    assert [value_of(letter) for letter in letters["not-json"]] == [garbage, None]
    assert [value_of(letter) for letter in letters["not-an-object"]] == [array, text]
    assert letters["bad-key"][0]["trigger"] == tenant.full("pair")
    after = tenant.engine.metrics("route")
    for reason, count in (("not-json", 2), ("not-an-object", 2), ("payload-too-large", 1), ("bad-time", 1)):
        name = f'headrace_events_unreadable_total{{reason="{reason}"}}'
        assert after[name] - before.get(name, 0) == count

    shown = tenant.engine.here("deadletters", "show", letters["not-json"][0]["id"]).expect(0).stdout
    assert "\\xff\\xfe{no json" in shown and "origin: pipeline-7" in shown
    big = letters["payload-too-large"][0]
    assert f"has {len(huge)} bytes" in big["message"]
    # Too large to keep, so it is kept by reference, and a retry says where it lies.
    assert "value" not in big
    assert f"{event}:0:3" in tenant.engine.here("deadletters", "retry", big["id"]).refusal()
    rows = tenant.engine.here("events", event, "--json").expect(0).rows
    assert [row.get("unreadable") for row in rows] == [
        "not-json", "not-an-object", "not-an-object", "payload-too-large", "not-json", "bad-time", "from-the-future",
        None, None,
    ]  # fmt: skip


def test_a_firing_of_an_unknown_template_is_kept_and_its_retry_runs_once(tenant: Tenant) -> None:
    event = tenant.event("early")
    tenant.deploy(tenant.trigger("early", [event], "comes-later"))
    tenant.produce([Bare(event, b'{"n": 1}')])
    tenant.settle(event)
    (letter,) = tenant.dead_letters()
    assert (letter["reason"], letter["kind"]) == ("unknown-template", "firing")
    assert f"no workflowTemplate comes-later in namespace {tenant.namespace}" in letter["message"]
    (run,) = tenant.runs("early")
    assert (run["state"], run["reason"]) == ("refused", "unknown-template")
    counted = tenant.engine.metrics("submit")['headrace_dead_letters_total{reason="unknown-template",role="submit"}']
    assert counted >= 1

    # Too early once more. The new letter has an id of its own, so that taking the first away cannot hide it.
    tenant.engine.here("deadletters", "retry", letter["id"]).expect(0)
    tenant.settle(event)
    (again,) = tenant.dead_letters()
    assert again["id"] != letter["id"]
    assert {**again, "id": letter["id"]} == letter
    assert tenant.workflows() == []

    tenant.template("comes-later", {"n": None})
    tenant.engine.here("deadletters", "retry", again["id"][:8]).expect(0)
    tenant.settle(event)
    (workflow,) = tenant.workflows()
    assert parameters_of(workflow) == {"n": "1"}
    assert tenant.dead_letters() == []
    assert "there is no dead letter" in tenant.engine.here("deadletters", "retry", again["id"]).refusal()
    assert [state for _, _, state in tenant.run_records()] == ["refused", "refused", "started"]


def test_template_text_in_values_is_refused_where_it_is_plain_and_escaped_inside_json(tenant: Tenant) -> None:
    tenant.template("plain", {"value": None})
    event = tenant.event("sly")
    tenant.deploy(tenant.trigger("plain", [event], "plain"))
    texts = ["{{workflow.name}}", "{{=1+1}}", "{{{{"]
    tenant.produce(Bare(event, json.dumps({"value": text}).encode()) for text in texts)
    tenant.produce(Bare(event, json.dumps({"value": {"deep": [text], text: 1}}).encode()) for text in texts)
    tenant.settle(event)

    letters = tenant.dead_letters()
    assert [(letter["reason"], letter["offset"]) for letter in letters] == [("template-text", n) for n in range(3)]
    assert all("parameter value" in letter["message"] for letter in letters)
    values = [parameters_of(workflow)["value"] for workflow in tenant.workflows()]
    assert not any("{{" in value for value in values)
    found = [json.loads(value) for value in values]
    assert sorted(value["deep"][0] for value in found) == sorted(texts)
    assert all(set(value) == {"deep", value["deep"][0]} for value in found)
    # What a publisher chooses besides the payload must be as harmless.
    assert not any("{{" in json.dumps(workflow["metadata"]["annotations"]) for workflow in tenant.workflows())


def test_template_text_in_an_event_id_does_not_reach_the_workflow_unescaped(tenant: Tenant) -> None:
    tenant.template("plain", {"value": None})
    event = tenant.event("sly-id")
    tenant.deploy(tenant.trigger("plain", [event], "plain"))
    tenant.produce([Bare(event, b'{"value": "fine"}', [("ce_id", b"{{=1+1}}")])])
    (workflow,) = tenant.wait_for_workflows(1)
    text = workflow["metadata"]["annotations"]["headrace.dev/events"]
    assert "{{" not in text
    assert [used["id"] for used in json.loads(text)] == ["{{=1+1}}"]


def test_an_event_that_a_filter_cannot_judge_is_no_match_and_counted(tenant: Tenant) -> None:
    tenant.template("flow", {"rows": None})
    event = tenant.event("rows")
    tenant.deploy(tenant.trigger("flow", [{"name": event, "filter": "event.rows > 1000"}], "flow"))
    before = tenant.engine.metrics("route")
    tenant.produce([Bare(event, b'{"rows": 5}'), Bare(event, b'{"lines": 5}'), Bare(event, b'{"rows": 1001}')])
    tenant.settle(event)
    after = tenant.engine.metrics("route")
    for how in ("filtered", "filter_failed"):
        name = f'headrace_filtered_total{{how="{how}"}}'
        assert after[name] - before.get(name, 0) == 1
    assert [parameters_of(workflow) for workflow in tenant.workflows()] == [{"rows": "1001"}]
    assert tenant.dead_letters() == []


@pytest.mark.parametrize("name", ["data updated", "größe", "a/b", "..", "x" * 250])
def test_an_illegal_event_name_is_refused_where_it_is_given(kafka: KafkaServer, tmp_path: Path, name: str) -> None:
    environment = {"HEADRACE_BOOTSTRAP_SERVERS": kafka.bootstrap_servers}
    said = here(environment, "publish", name, "-p", "n=1").refusal()
    assert "event" in said and name[:40] in said
    file = tmp_path / "trigger.yaml"
    file.write_text(
        "apiVersion: headrace.dev/v1\nkind: Trigger\nmetadata: {name: illegal}\nspec:\n"
        f"  events:\n    - fine\n    - name: {name}\n  run: {{workflowTemplate: flow}}\n"
    )
    said = here(environment, "deploy", str(file)).refusal()
    assert said.startswith(f"headrace: {file}:7: spec.events.1.name"), said


def test_a_typo_in_a_trigger_file_is_reported_with_file_and_line_and_deploys_nothing(
    tenant: Tenant, tmp_path: Path
) -> None:
    fine = tenant.trigger("fine", [tenant.event("fine")], "flow")
    text = f"{fine}---\n" + tenant.trigger("typo", [{"name": "x", "filtr": "true"}], "flow", windw="1h")
    file = tmp_path / "triggers.yaml"
    file.write_text(text)
    lines = text.splitlines()
    said = tenant.engine.here("deploy", str(file)).expect(1)
    assert said.stdout == ""
    for word, place in (("filtr", "spec.events.0.filtr"), ("windw", "spec.windw")):
        line = next(number for number, line in enumerate(lines, 1) if word in line)
        assert f"{file}:{line}: {place} is not a field of a trigger; is it misspelt?" in said.stderr
    deployed = [row["name"] for row in tenant.engine.here("triggers", "--json").expect(0).rows]
    assert tenant.full("fine") not in deployed


def test_junk_in_the_internal_topics_is_set_aside_and_work_goes_on(tenant: Tenant) -> None:
    tenant.template("flow", {"n": None, "m": None})
    left, right = tenant.event("left"), tenant.event("right")
    tenant.deploy(tenant.trigger("both", [left, right], "flow"))
    prefix = tenant.engine.prefix
    junk = [b"junk", b"[]", b'{"version": 99, "kind": "frame"}']
    for topic in ("matches", "firings"):
        publish(tenant.client, f"{prefix}{topic}", junk)
    tenant.produce([Bare(left, b'{"n": 1}'), Bare(right, b'{"m": 2}')])
    tenant.settle(left, right)
    assert [parameters_of(workflow) for workflow in tenant.workflows()] == [{"m": "2", "n": "1"}]
    letters = tenant.engine.here("deadletters", "list", "--json").expect(0).rows
    internal = [letter for letter in letters if letter["topic"].startswith(prefix)]
    assert {letter["reason"] for letter in internal} == {"unreadable-record"}
    assert sorted((letter["topic"], value_of(letter) or b"") for letter in internal) == sorted(
        (f"{prefix}{topic}", value) for topic in ("matches", "firings") for value in junk
    )
