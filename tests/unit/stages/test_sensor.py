"""A Sensor of Metaflow's becomes a trigger; everything that is not understood is refused by name."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from headrace.model.sensor import Reset, SensorParameter
from headrace.stages.sensor import STATUS_ANNOTATION, compile_sensor, template_of
from headrace.stages.sensor_parts import SensorError
from tests.unit.stages.build import make_definition
from tests.unit.stages.sensor_files import NAMES, record_of, sensor, trigger_of

DELETE = object()


def changed(name: str, path: str, value: Any) -> dict[str, Any]:
    """Return a Sensor with one place changed, added or deleted; list places are numbers."""
    made = copy.deepcopy(sensor(name))
    *way, last = [int(part) if part.isdigit() else part for part in path.split("/")]
    place: Any = made
    for part in way:
        place = place[part]
    if value is DELETE:
        del place[last]
    elif isinstance(place, list) and last == len(place):
        place.append(value)
    else:
        place[last] = value
    return made


def annotated(name: str, **settings: str) -> dict[str, Any]:
    """Return a Sensor with `headrace.dev/*` annotations; `max_age` becomes `max-age`."""
    made = sensor(name)
    made["metadata"]["annotations"].update({f"headrace.dev/{k.replace('_', '-')}": v for k, v in settings.items()})
    return made


def test_a_sensor_names_its_trigger_and_its_workflow_template() -> None:
    compiled = compile_sensor(sensor("one"))
    assert compiled.name == "events/oneflow"
    assert compiled.spec.run.workflow_template == "oneflow"
    assert (compiled.sensor.name, compiled.sensor.trigger, compiled.sensor.namespace) == ("oneflow", "oneflow", "ml")
    assert compiled.sensor.annotations == {"metaflow/triggered_by": '[{"name": "data_updated", "type": "event"}]'}
    assert compiled.sensor.labels == {}


def test_the_workflow_keeps_its_parameters_in_their_order() -> None:
    assert list(compile_sensor(sensor("one")).sensor.arguments.items()) == [
        ("latest", '"2023-05-01"'),
        ("layout", '"{\\"a\\": [1]}"'),
        ("note", "null"),
        ("ratio", "0.5"),
        ("region", "null"),
        ("strict", "true"),
        ("window", "3"),
        ("with-dash", '"d"'),
        ("data_updated_36kb", "null"),
    ]


def test_events_keep_their_own_names_where_the_dependency_has_another() -> None:
    compiled = compile_sensor(sensor("mapped"))
    assert [event.name for event in compiled.spec.events] == ["some.event-v2"]
    assert compiled.sensor.parameters == [
        SensorParameter(parameter="window", event="some.event-v2", field="how_many_days", default="3"),
        SensorParameter(parameter="layout", event="some.event-v2", field="shape", quoted=True, default="null"),
        SensorParameter(parameter="someeventv2_6oa4", event="some.event-v2", default="null"),
    ]


def test_fields_of_required_parameters_are_required() -> None:
    assert compile_sensor(sensor("one")).sensor.requires == {"data_updated": ["region"]}
    assert compile_sensor(sensor("mapped")).sensor.requires == {"some.event-v2": ["shape"]}
    assert compile_sensor(sensor("two")).sensor.requires == {}


@pytest.mark.parametrize("field", ["name", "id", "timestamp"])
def test_a_field_that_every_event_has_is_never_missing(field: str) -> None:
    made = changed("one", "spec/dependencies/0/filters/exprs/1/fields/0/path", f"body.payload.{field}")
    assert compile_sensor(made).sensor.requires == {}


def test_a_finished_flow_is_known_by_its_project_and_branch() -> None:
    (event,) = compile_sensor(sensor("finish")).spec.events
    assert event.name == "metaflow.warehouse.user.tester.UpstreamFlow.end"
    assert event.filter == (
        '"auto-generated-by-metaflow" in event && event["auto-generated-by-metaflow"] == "True" && '
        '"project_name" in event && event["project_name"] == "warehouse" && '
        '"branch_name" in event && event["branch_name"] == "user.tester"'
    )


@pytest.mark.parametrize(
    ("name", "resets"),
    [
        ("one", [Reset(cron="0 6 * * 1-5", timezone="Europe/Berlin")]),
        ("two", [Reset(cron="0 6 * * 1-5", timezone="UTC")]),
        ("mapped", []),
    ],
)
def test_reset_at_is_read(name: str, resets: list[Reset]) -> None:
    assert compile_sensor(sensor(name)).sensor.resets == resets


@pytest.mark.parametrize("name", NAMES)
def test_what_the_api_server_adds_and_drops_changes_nothing(name: str) -> None:
    def without_nulls(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: without_nulls(v) for k, v in value.items() if v is not None}
        return [without_nulls(item) for item in value] if isinstance(value, list) else value

    stored = without_nulls(sensor(name))
    stored["metadata"] |= {"uid": "u", "resourceVersion": "7", "generation": 1, "managedFields": [{"manager": "m"}]}
    stored["status"] = {"conditions": [{"type": "Deployed"}]}
    assert compile_sensor(stored) == compile_sensor(sensor(name))


def test_the_argo_workflow_form_means_the_same() -> None:
    made = sensor("one")
    template = made["spec"]["triggers"][0]["template"]
    template["argoWorkflow"] = {**template.pop("k8s"), "operation": "submit"}
    assert compile_sensor(made) == compile_sensor(sensor("one"))


def test_parameters_may_be_named_by_their_index() -> None:
    made = changed("one", "spec/triggers/0/template/k8s/parameters/8/dest", "spec.arguments.parameters.8.value")
    assert compile_sensor(made) == compile_sensor(sensor("one"))


def test_a_workflow_without_a_namespace_starts_with_its_sensor() -> None:
    made = changed("one", "spec/triggers/0/template/k8s/source/resource/metadata/namespace", DELETE)
    assert compile_sensor(made).sensor.namespace == "events"
    assert template_of(made) == ("events", "oneflow")


def test_a_cluster_workflow_template_is_one() -> None:
    path = "spec/triggers/0/template/k8s/source/resource/spec/workflowTemplateRef/clusterScope"
    made = changed("one", path, True)
    assert compile_sensor(made).spec.run.cluster_workflow_template == "oneflow"
    assert template_of(made) is None


@pytest.mark.parametrize("name", NAMES)
def test_the_template_of_a_sensor_is_found_without_compiling_it(name: str) -> None:
    compiled = compile_sensor(sensor(name))
    assert template_of(sensor(name)) == (compiled.sensor.namespace, compiled.spec.run.target)


@pytest.mark.parametrize("made", [{}, {"metadata": {"namespace": "n"}, "spec": {"triggers": []}}])
def test_a_broken_sensor_has_no_template(made: dict[str, Any]) -> None:
    assert template_of(made) is None


def test_annotations_set_window_match_key_and_age() -> None:
    spec = compile_sensor(
        annotated("two", window="6h", match="each", key="event.region", max_age="1d", paused="true")
    ).spec
    assert (spec.window, spec.match, spec.max_age, spec.paused) == ("6h", "each", "1d", True)
    assert [event.key for event in spec.events] == ["event.region"] * 3


def test_the_sensors_own_annotation_stands_above_the_templates() -> None:
    made = annotated("two", window="6h")
    template = {"headrace.dev/window": "2h", "headrace.dev/match": "each", "metaflow/owner": "tester"}
    spec = compile_sensor(made, template_annotations=template).spec
    assert (spec.window, spec.match) == ("6h", "each")


def test_without_annotations_the_engines_defaults_hold() -> None:
    spec = compile_sensor(sensor("two")).spec
    assert (spec.window, spec.match, spec.max_age) == (None, "latest", None)


def test_what_headrace_reports_on_a_sensor_is_no_setting() -> None:
    made = sensor("one")
    made["metadata"]["annotations"][STATUS_ANNOTATION] = "refused: …"
    assert compile_sensor(made) == compile_sensor(sensor("one"))


@pytest.mark.parametrize(
    ("setting", "value", "words"),
    [
        ("window", "soon", "headrace.dev/window"),
        ("match", "collect", "headrace.dev/match"),
        ("max_age", "x", "headrace.dev/max-age"),
        ("key", "event.", "is not a CEL expression"),
        ("key", "evnt.x", "a name that does not exist"),
        ("paused", "perhaps", "headrace.dev/paused"),
        ("limits", "rate=1", "annotation headrace.dev/limits is not supported"),
        ("windows", "1h", "annotation headrace.dev/windows is not supported"),
    ],
)
def test_annotations_that_cannot_work_are_refused(setting: str, value: str, words: str) -> None:
    with pytest.raises(SensorError) as refused:
        compile_sensor(annotated("two", **{setting: value}))
    assert str(refused.value).startswith("the Sensor events/twoflow cannot be a trigger: ")
    assert words in str(refused.value)


TEMPLATE = "spec/triggers/0/template"
K8S = f"{TEMPLATE}/k8s"
RESOURCE = f"{K8S}/source/resource"
EXPRS = "spec/dependencies/0/filters/exprs"


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("spec", DELETE, "spec is missing"),
        ("spec/triggers", [], "spec.triggers is missing or empty"),
        ("spec/dependencies", DELETE, "spec.dependencies is missing or empty"),
        ("spec/dependencies", {}, "spec.dependencies is missing or empty"),
        ("spec/errorOnFailedRound", True, "spec.errorOnFailedRound is not supported"),
        ("spec/triggers/1", {"template": {}}, "it has 2 triggers; one is supported"),
        ("spec/triggers/0/policy", {"k8s": {}}, "spec.triggers[0].policy is not supported"),
        ("spec/triggers/0/parameters", [{"src": {}}], "spec.triggers[0].parameters is not supported"),
        ("spec/triggers/0/rateLimit", {"unit": "Second"}, "spec.triggers[0].rateLimit is not supported"),
        ("spec/triggers/0/retryStrategy", {"steps": 3}, "spec.triggers[0].retryStrategy is not supported"),
        (f"{TEMPLATE}/conditions", "a || b", "template.conditions is not supported"),
        (f"{TEMPLATE}/http", {"url": "u"}, "template.http is not supported"),
        (f"{TEMPLATE}/argoWorkflow", {"operation": "submit"}, "needs exactly one of k8s and argoWorkflow"),
        (f"{TEMPLATE}/k8s", DELETE, "needs exactly one of k8s and argoWorkflow"),
        (f"{TEMPLATE}/conditionsReset/0/byTime/cron", "0 6 * *", "has 4 fields"),
        (f"{TEMPLATE}/conditionsReset/0/byTime/cron", "61 6 * * *", "'61' is no minute"),
        (f"{TEMPLATE}/conditionsReset/0/byTime/timezone", "Mars/Olympus", "time zone 'Mars/Olympus'"),
        (f"{TEMPLATE}/conditionsReset/0/byCount", 3, "conditionsReset[0].byCount is not supported"),
        (f"{K8S}/operation", "patch", "operation patch is not supported; create is"),
        (f"{K8S}/patchStrategy", "merge", "k8s.patchStrategy is not supported"),
        (f"{K8S}/source/s3", {"bucket": "b"}, "k8s.source.s3 is not supported"),
        (f"{RESOURCE}/kind", "CronWorkflow", "is no argoproj.io/v1alpha1 Workflow"),
        (f"{RESOURCE}/metadata/name", "fixed", "metadata.name is not supported"),
        (f"{RESOURCE}/spec/entrypoint", "main", "spec.entrypoint is not supported"),
        (f"{RESOURCE}/spec/arguments/artifacts", [{"name": "a"}], "arguments.artifacts is not supported"),
        (f"{RESOURCE}/spec/arguments/parameters/0/value", 3, "parameters[0].value is no text"),
        (f"{RESOURCE}/spec/arguments/parameters/0/value", DELETE, "parameters[0].value is missing"),
        (f"{RESOURCE}/spec/arguments/parameters/1/name", "latest", "parameters[1].name 'latest' stands twice"),
        (f"{RESOURCE}/spec/workflowTemplateRef", DELETE, "workflowTemplateRef is missing"),
        (f"{K8S}/parameters/0/operation", "append", "parameters[0].operation is not supported"),
        (f"{K8S}/parameters/0/dest", "metadata.name", "dest 'metadata.name' is no value of a parameter"),
        (f"{K8S}/parameters/0/dest", "spec.arguments.parameters.#(name=nobody).value", "is no value of a parameter"),
        (f"{K8S}/parameters/0/dest", "spec.arguments.parameters.9.value", "is no value of a parameter"),
        (f"{K8S}/parameters/0/src/dependencyName", "nobody", "'nobody' is no dependency"),
        (f"{K8S}/parameters/0/src/useRawData", True, "useRawData is not supported"),
        (f"{K8S}/parameters/0/src/contextKey", "id", "src.contextKey is not supported"),
        (f"{K8S}/parameters/0/src/dataKey", "body.payload.note", "needs either dataKey 'body.payload'"),
        (
            f"{K8S}/parameters/0/src/dataTemplate",
            "{{ .Input.body.payload.note }}",
            "is not one that Metaflow 2.19 writes",
        ),
        (f"{K8S}/parameters/8/src/dataKey", "body", "needs either dataKey 'body.payload'"),
        (f"{K8S}/parameters/8/src/value", DELETE, "src.value is missing"),
        ("spec/dependencies/0/transform", {"jq": "."}, "dependencies[0].transform is not supported"),
        ("spec/dependencies/0/filtersLogicalOperator", "or", "filtersLogicalOperator is not supported"),
        ("spec/dependencies/0/filters", DELETE, "dependencies[0].filters is missing"),
        ("spec/dependencies/0/filters/data", [{"path": "p"}], "filters.data is not supported"),
        ("spec/dependencies/0/filters/script", "return true", "filters.script is not supported"),
        ("spec/dependencies/0/filters/exprLogicalOperator", "or", "filters.exprLogicalOperator is not supported"),
        (f"{EXPRS}/0", DELETE, "which event it waits for"),
        (f"{EXPRS}/0/expr", "name != 'data_updated'", "\"name != 'data_updated'\" is not supported"),
        (f"{EXPRS}/0/expr", "name =~ 'data.*'", "is not supported; equality"),
        (f"{EXPRS}/0/expr", "other == 'data_updated'", "is not supported; equality"),
        (f"{EXPRS}/0/expr", "name == 'a b'", "cannot be an event's name"),
        (f"{EXPRS}/1/expr", "name == 'x' || true", "is not supported; equality"),
        (f"{EXPRS}/0/fields/0/path", "header.Name", "path 'header.Name' is not supported"),
        (f"{EXPRS}/0/fields/0/path", "body.payload.a.b", "path 'body.payload.a.b' is not supported"),
        (f"{EXPRS}/0/fields/1", {"name": "n", "path": "body.payload.x"}, "compares 2 fields"),
    ],
)
def test_what_is_not_understood_is_refused_by_name(path: str, value: Any, words: str) -> None:
    with pytest.raises(SensorError) as refused:
        compile_sensor(changed("one", path, value))
    assert words in str(refused.value)


def test_one_event_cannot_fill_two_dependencies() -> None:
    made = changed("two", "spec/dependencies/1/filters/exprs/0/expr", "name == 'one_event'")
    with pytest.raises(SensorError, match="two dependencies wait for the event one_event"):
        compile_sensor(made)


def test_a_field_that_must_equal_two_values_is_refused() -> None:
    made = changed("finish", "spec/dependencies/0/filters/exprs/2/fields/0/path", "body.payload.branch_name")
    with pytest.raises(SensorError, match="cannot equal both 'warehouse' and 'user\\.tester'"):
        compile_sensor(made)


def test_only_the_definitions_of_sensors_carry_one() -> None:
    # A role of the release before this one refuses fields that it does not know.
    assert "sensor" in trigger_of(sensor("one")).definition.to_json()
    assert "sensor" not in make_definition().to_json()


@pytest.mark.parametrize("name", NAMES)
def test_a_definition_survives_the_way_inside_records(name: str) -> None:
    definition = trigger_of(sensor(name)).definition
    assert type(definition).from_json(definition.to_json()) == definition
    assert record_of(sensor(name)).sensor == compile_sensor(sensor(name)).sensor
