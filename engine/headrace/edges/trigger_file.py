"""Trigger files: YAML with one or several triggers, read with the line of each mistake."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import yaml
from pydantic import ValidationError

from headrace.model.errors import TriggerError
from headrace.model.trigger import TriggerFile

_NULL = "tag:yaml.org,2002:null"


@dataclass(frozen=True, slots=True)
class LoadedTrigger:
    """One trigger of one file."""

    file: TriggerFile
    source: str
    """The file and line where it begins."""
    directory: Path
    """What a flow's path is relative to."""
    note: str | None = None
    """What whoever deploys it should know besides, a sentence."""


def load_triggers(text: str, source: str, directory: Path) -> list[LoadedTrigger]:
    """Read every trigger in a YAML text.

    Args:
        text: one or several YAML documents.
        source: the file's name, for messages.
        directory: what a flow's path is relative to.

    Raises:
        TriggerError: the text is no YAML, or a trigger is not right; file, line and field are named.
    """
    try:
        nodes = [node for node in yaml.compose_all(text, Loader=yaml.SafeLoader) if node and node.tag != _NULL]
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark is not None else ""
        raise TriggerError(f"{source}{line}: this is not YAML: {getattr(error, 'problem', error)}") from None
    if not nodes:
        raise TriggerError(f"{source}: the file holds no trigger")
    return [_load(node, source, directory) for node in nodes]


def _load(node: yaml.Node, source: str, directory: Path) -> LoadedTrigger:
    line = node.start_mark.line + 1
    duplicate = _duplicate_key(node)
    if duplicate is not None:
        raise TriggerError(f"{source}:{duplicate.start_mark.line + 1}: the key {duplicate.value} stands twice")
    try:
        value = _Constructor().construct_document(node)
        return LoadedTrigger(TriggerFile.model_validate(value), f"{source}:{line}", directory)
    except yaml.YAMLError as error:
        raise TriggerError(f"{source}:{line}: this is not YAML: {getattr(error, 'problem', error)}") from None
    except ValidationError as error:
        found = sorted((_sentence(node, detail) for detail in error.errors()), key=lambda pair: pair[0])
        raise TriggerError("\n".join(dict.fromkeys(f"{source}:{at}: {text}" for at, text in found))) from None


class _Constructor(yaml.constructor.SafeConstructor):
    """Makes values, but leaves dates as the text that was written."""

    yaml_constructors: ClassVar[dict[str | None, Any]] = {
        **yaml.constructor.SafeConstructor.yaml_constructors,
        "tag:yaml.org,2002:timestamp": yaml.constructor.SafeConstructor.construct_yaml_str,
    }


def _sentence(node: yaml.Node, detail: Any) -> tuple[int, str]:
    location = [part for part in detail["loc"] if not (isinstance(part, str) and part.startswith("function-"))]
    found, path = _walk(node, location)
    where = ".".join(map(str, path)) or "the trigger"
    line = found.start_mark.line + 1
    missing = [str(part) for part in location[len(path) :]]
    match detail["type"]:
        case "extra_forbidden":
            text = f"{where} is not a field of a trigger; is it misspelt?"
        case "missing":
            text = f"{where if path else 'the trigger'} lacks {'.'.join(missing)}"
        case _:
            message = detail["msg"].removeprefix("Value error, ")
            text = message if message.startswith(str(path[-1]) if path else "\0") else f"{where}: {message}"
    return line, text


def _walk(node: yaml.Node, location: list[Any]) -> tuple[yaml.Node, list[Any]]:
    """Follow a path of field names as far as the document goes; return the key's node, which has the line."""
    at, found, path = node, node, []
    for part in location:
        step = _step(at, part)
        if step is None:
            break
        found, at = step
        path.append(part)
    return found, path


def _step(node: yaml.Node, part: Any) -> tuple[yaml.Node, yaml.Node] | None:
    if isinstance(node, yaml.MappingNode):
        return next(((key, value) for key, value in node.value if key.value == str(part)), None)
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part], node.value[part]
    return None


def _duplicate_key(node: yaml.Node) -> yaml.Node | None:
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            if key.value in seen:
                return key  # type: ignore[no-any-return]
            seen.add(key.value if isinstance(key.value, str) else id(key))
            inner = _duplicate_key(value)
            if inner is not None:
                return inner
    if isinstance(node, yaml.SequenceNode):
        for value in node.value:
            inner = _duplicate_key(value)
            if inner is not None:
                return inner
    return None
