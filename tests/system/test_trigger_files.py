"""Trigger files that cannot be deployed: each mistake is named with file and line, and nothing is deployed."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from tests.support.engine import Engine, here
from tests.support.kafka import KafkaServer

HEAD = "apiVersion: headrace.dev/v1\nkind: Trigger\nmetadata: {name: broken}\nspec:\n"
RUN = "  run: {workflowTemplate: flow}\n"

BROKEN = {
    "not YAML": ("a: 1\n b: 2\n", ":2: this is not YAML"),
    "empty": ("# nothing\n", ": the file holds no trigger"),
    "a list": ("- one\n", ":1: "),
    "no run": (f"{HEAD}  events: [e]\n", ":4: spec lacks run"),
    "two targets": (f"{HEAD}  events: [e]\n  run: {{workflowTemplate: a, flow: b.py}}\n", ":6: spec.run"),
    "a key twice": (f"{HEAD}  events: [e]\n  events: [f]\n{RUN}", ":6: the key events stands twice"),
    "a window": (f"{HEAD}  events: [e]\n  window: soon\n{RUN}", ":6: spec.window: 'soon' is not a duration"),
    "no CEL": (f"{HEAD}  events:\n    - {{name: e, filter: 'event.'}}\n{RUN}", ":1: "),
    "an unknown variable": (f"{HEAD}  events:\n    - {{name: e, key: 'evnt.k'}}\n{RUN}", ":1: "),
    "collect": (f"{HEAD}  events: [e]\n  match: collect\n{RUN}", ":6: match: collect is not supported"),
    "any": (f"{HEAD}  events: [e, f]\n  require: any\n{RUN}", ":6: require other than all is not supported"),
    "at least": (f"{HEAD}  events: [e, f]\n  require: {{atLeast: 1}}\n{RUN}", ":6: require other than all is not"),
    "deadline": (f"{HEAD}  events: [e, f]\n  deadline: {{after: 1m}}\n{RUN}", ":6: deadline is not supported"),
    "limits": (f"{HEAD}  events: [e]\n  limits: {{rate: 1/s}}\n{RUN}", ":6: limits is not supported"),
    "another kind": ("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n", ":1: apiVersion"),
    "a bad name": ("apiVersion: headrace.dev/v1\nkind: Trigger\nmetadata: {name: No Name}\n"
                   "spec: {events: [e], run: {workflowTemplate: w}}\n", ":1: "),
    "a missing flow": (f"{HEAD}  events: [e]\n  run: {{flow: nowhere.py}}\n", ":1: the flow "),
}  # fmt: skip


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_trigger_file_is_refused_with_file_and_line(
    kafka: KafkaServer,
    tmp_path: Path,
    what: str,
) -> None:
    environment = {"HEADRACE_BOOTSTRAP_SERVERS": kafka.bootstrap_servers}
    text, expected = BROKEN[what]
    file = tmp_path / "broken.yaml"
    file.write_text(text)
    refused = here(environment, "deploy", str(file)).expect(1)
    assert refused.stdout == ""
    assert refused.stderr.startswith(f"headrace: {file}{expected}"), refused


def test_files_that_cannot_be_read_or_collide_are_refused(idle_engine: Engine, tmp_path: Path) -> None:
    def refusal(*arguments: str, stdin: str = "") -> str:
        return idle_engine.here(*arguments, stdin=stdin).refusal()

    latin = tmp_path / "latin.yaml"
    latin.write_bytes("größe".encode("latin-1"))
    flow = tmp_path / "flow.py"
    flow.write_text("")
    for file, part in (
        (tmp_path / "missing.yaml", "cannot be read"),
        (tmp_path, "cannot be read"),
        (latin, "cannot be read"),
        (flow, "starts no flow"),
    ):
        sentence = refusal("deploy", str(file))
        assert str(file) in sentence and part in sentence

    unique = uuid.uuid4().hex
    sentence = refusal("deploy", "-", stdin=f"{HEAD}  events: [a.b-{unique}, a_b-{unique}]\n{RUN}")
    assert f"a.b-{unique} and a_b-{unique} cannot both be topics" in sentence
    sentence = refusal("deploy", "-", stdin=f"{HEAD}  events: [e]\n{RUN}---\n{HEAD}  events: [f]\n{RUN}")
    assert "default/broken stands twice" in sentence
