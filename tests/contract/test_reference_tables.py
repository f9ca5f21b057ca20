"""The README's tables say what the code says: settings, bounds, reasons, commands, fields, topics, make targets."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from prometheus_client import REGISTRY
from pydantic import BaseModel
from typer.core import TyperArgument, TyperGroup, TyperOption

import headrace.edges.metrics as metrics
import headrace_publisher
from headrace.cli.main import app
from headrace.edges.trigger_file import load_triggers
from headrace.model import bounds
from headrace.model.dead_letter import Reason
from headrace.model.errors import TriggerError
from headrace.model.topics import TopicNames, internal_topics
from headrace.model.trigger import TriggerFile, TriggerSpec
from headrace.settings import load
from headrace_publisher.settings import PublisherOptions
from tests.support.readme import quoted, table

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PUBLISHER = ROOT / "publisher" / "README.md"
PAGES = (README, PUBLISHER, ROOT / "engine" / "README.md", ROOT / "docs" / "metaflow.md", ROOT / "docs" / "rules.md")
ENGINE = ROOT / "engine" / "headrace"
SETTINGS_SOURCES = (ENGINE / "settings.py", ROOT / "publisher" / "headrace_publisher" / "settings.py")
FILES_WITH_SETTINGS = (
    *PAGES,
    ROOT / "docker-compose.yml",
    ROOT / "engine" / "Dockerfile",
    *sorted((ROOT / "deploy").glob("*.yaml")),
)
DAY_MS = 24 * 3_600_000
TRIGGER = """
apiVersion: headrace.dev/v1
kind: Trigger
metadata: {{name: refused}}
spec:
  events: [a, b]
  run: {{workflowTemplate: t}}
  {field}
"""


def first_cells(first: str, page: Path = README) -> list[str]:
    """The quoted words of a table's first column."""
    return [word for row in table(page, first).rows for word in quoted(row[0])]


def settings_in_code() -> set[str]:
    found = {name for source in SETTINGS_SOURCES for name in re.findall(r'"(HEADRACE_[A-Z_]+)"', source.read_text())}
    return (found - {"HEADRACE_KAFKA_"}) | {"HEADRACE_KAFKA_*"}


def test_every_setting_is_in_the_table_with_its_default() -> None:
    rows = {quoted(row[0])[0]: row for row in table(README, "variable").rows}
    assert rows.keys() == settings_in_code()
    plain = load({})
    for name, row in rows.items():
        for default in quoted(row[1]):
            assert load({name: default}) == plain, f"{name} is something else than {default} by default"
    with_default = {name for name, row in rows.items() if quoted(row[1])}
    without_default = {"BOOTSTRAP_SERVERS", "KAFKA_*", "NAMESPACES", "INGRESS_TOKEN", "INGRESS_HMAC_SECRET"}
    assert rows.keys() - with_default == {f"HEADRACE_{name}" for name in without_default}


@pytest.mark.parametrize("path", FILES_WITH_SETTINGS, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_names_a_setting_that_does_not_exist(path: Path) -> None:
    known = settings_in_code()
    named = set(re.findall(r"HEADRACE_[A-Z_]*[A-Z*]", path.read_text()))
    assert {name for name in named if not name.startswith("HEADRACE_KAFKA_")} <= known


def test_every_bound_is_in_the_table_with_its_value() -> None:
    shown = {quoted(row[0])[0]: row[1] for row in table(README, "bound").rows}
    declared = {name: value for name, value in vars(bounds).items() if name.endswith("_MAX")}
    assert shown == {name: bound_text(name, value) for name, value in declared.items()}


def bound_text(name: str, value: int) -> str:
    if "_BYTES_" in name and value % bounds.KIB == 0:
        return f"{value // bounds.MIB} MiB" if value % bounds.MIB == 0 else f"{value // bounds.KIB} KiB"
    return f"{value // 60_000} min" if "_MS_" in name else f"{value:,}"


def test_every_reason_is_in_the_table_with_the_role_that_writes_it() -> None:
    rows = {quoted(row[0])[0]: row[1].split(", ") for row in table(README, "reason").rows}
    assert rows.keys() == {reason.value for reason in Reason}
    written: dict[str, set[str]] = {reason.value: set() for reason in Reason}
    for path in sorted((*(ENGINE / "stages").glob("*.py"), *(ENGINE / "roles").glob("*.py"))):
        for name in re.findall(r"\bReason\.([A-Z_]+)", path.read_text()):
            written[Reason[name].value].add(ROLE_OF_MODULE[path.stem])
    assert {reason: set(roles) for reason, roles in rows.items()} == written


ROLE_OF_MODULE = {
    "read": "route",
    "route": "route",
    "outbox": "route",
    "join": "join",
    "bind": "submit",
    "workflow": "submit",
    "attempt": "submit",
    "submit": "submit",
}


def all_commands() -> Iterator[tuple[str, Any]]:
    root = typer.main.get_command(app)
    assert isinstance(root, TyperGroup)
    for name, command in root.commands.items():
        if isinstance(command, TyperGroup):
            yield from ((f"{name} {sub}", found) for sub, found in command.commands.items())
        else:
            yield name, command


def test_every_command_is_in_the_table_with_every_option() -> None:
    lines = [quoted(row[0])[0] for row in table(README, "command").rows]
    shown = {" ".join(re.findall(r" ([a-z]+)\b", re.sub(r"\[.*", "", line))): line for line in lines}
    declared = dict(all_commands())
    assert shown.keys() == declared.keys()
    for name, command in declared.items():
        options = [p for p in command.params if isinstance(p, TyperOption) and not p.hidden]
        written = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", shown[name]))
        for option in options:
            assert written & set(option.opts), f"{shown[name]} lacks {option.opts}"
        assert written <= {text for option in options for text in option.opts}
        if any(isinstance(parameter, TyperArgument) for parameter in command.params):
            assert re.search(r" \[?[A-Z]+…?\]?( |$)", shown[name]), f"{shown[name]} lacks its argument"


def fields(model: type[BaseModel], path: str = "") -> Iterator[str]:
    """The fields of a trigger's file by their paths, as people write them."""
    for name, field in model.model_fields.items():
        full = f"{path}{field.alias or name}"
        inner = list(_models(field.annotation))
        if full not in ("metadata", "spec", "spec.run"):
            yield full
        for part in inner:
            yield from fields(part, f"{full}.")


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in getattr(annotation, "__args__", ()):
        yield from _models(part)


def test_every_field_of_a_trigger_is_in_the_table() -> None:
    assert sorted(first_cells("field")) == sorted(fields(TriggerFile))


def test_what_the_table_says_to_be_refused_is_refused() -> None:
    refused = {
        quoted(row[0])[0].removeprefix("spec."): row for row in table(README, "field").rows if "refused" in row[1]
    }
    assert refused.keys() == {"match", "require", "deadline", "limits"}
    values = {"match": ["collect"], "require": ["any", "{atLeast: 2}", "sequence"]}
    for field, row in refused.items():
        for value in values.get(field, ["{}"]):
            shown = value.replace("2", "n")
            assert field not in values or shown in quoted(row[1].partition(";")[2]), f"{field}: {shown} is not shown"
            with pytest.raises(TriggerError, match=f"{field}.* not supported by this version"):
                load_triggers(TRIGGER.format(field=f"{field}: {value}"), "a file", ROOT)
    assert TriggerSpec.model_fields.keys() > refused.keys()


def test_the_internal_topics_are_in_the_table_with_how_long_they_keep() -> None:
    shown = {quoted(row[0])[0]: row[2] for row in table(README, "topic").rows}
    assert shown == {
        topic.name: kept(topic.retention_ms, "compact" in topic.config["cleanup.policy"])
        for topic in internal_topics(TopicNames("headrace."), 1, 1)
    }


def kept(retention_ms: int | None, compacted: bool) -> str:
    if retention_ms is None:
        return "the newest of each, for ever"
    days, rest = divmod(retention_ms, DAY_MS)
    text = f"{days} days" if not rest else f"{retention_ms * 24 // DAY_MS} hour"
    return f"the newest of each, {text}" if compacted else text


def test_every_make_target_is_in_the_table() -> None:
    shown = {name.removeprefix("make ") for name in first_cells("target")}
    described = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert shown == described - {"help"}


def test_the_publisher_s_page_has_every_error_and_argument() -> None:
    errors = {
        name
        for name in headrace_publisher.__all__
        if isinstance(getattr(headrace_publisher, name), type)
        and issubclass(getattr(headrace_publisher, name), headrace_publisher.HeadracePublisherError)
    }
    assert set(first_cells("error", PUBLISHER)) == errors - {"HeadracePublisherError"}
    assert set(first_cells("argument", PUBLISHER)) == set(PublisherOptions.__annotations__)
    publisher = headrace_publisher.Publisher("127.0.0.1:1")
    try:
        settings = publisher.settings
        for row in table(PUBLISHER, "argument").rows:
            if row[1].isdigit():
                assert getattr(settings, quoted(row[0])[0]) == int(row[1])
        assert settings.payload_bytes_max == bounds.MIB
    finally:
        publisher.close()


def test_the_engine_s_page_has_every_folder() -> None:
    folders = {path.name for path in ENGINE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert set(first_cells("folder", ROOT / "engine" / "README.md")) == folders


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_names_exists(page: Path) -> None:
    text = page.read_text()
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)\)", text)
    missing = [link for link in links if not (page.parent / link).exists()]
    assert not missing, f"{page.name} links to {missing}"
    assert metrics.EVENTS is not None
    samples = {name for collector in REGISTRY.collect() for name in (collector.name, f"{collector.name}_total")}
    assert set(re.findall(r"`(headrace_(?!publisher)[a-z_]+)`", text)) <= samples
    names = {topic.name for topic in internal_topics(TopicNames("headrace."), 1, 1)}
    assert set(re.findall(r"\bheadrace\.(?!dev|yaml)[a-z]+\b", text)) <= names


def test_the_rules_name_tests_that_exist() -> None:
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs" / "rules.md").read_text()))
    sources = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    assert named
    assert not {name for name in named if f"def {name}(" not in sources}
