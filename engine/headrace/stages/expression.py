"""CEL expressions: filters, keys and computed parameters."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import cel

from headrace.model.errors import TriggerError
from headrace.model.event import Event


@dataclass(frozen=True, slots=True)
class Failed:
    """An evaluation that gave no value, such as one that reads a missing field."""

    message: str
    missing: bool = False
    """Whether a field that it reads is not there."""


_BESIDE_EVENT = ("name", "id", "time", "headers")
_EVENT = re.compile(r"\bevent\b")
_FIELD = re.compile(r"event\s*\.\s*([A-Za-z_][A-Za-z0-9_]*)(?![A-Za-z0-9_])(?!\s*\()")


class Expression:
    """A compiled CEL expression over `event` (the payload), `name`, `id`, `time` and `headers`."""

    __slots__ = ("_beside", "_fields", "_program", "text")

    def __init__(self, text: str) -> None:
        """Compile `text`.

        Raises:
            TriggerError: it is not CEL, or it names a variable or function that does not exist.
        """
        self.text = text
        # Handing a value over to the CEL library costs more than most expressions do with it. So it gets what the text
        # can name: a word that does not stand there cannot be meant.
        self._beside = tuple(name for name in _BESIDE_EVENT if re.search(rf"\b{name}\b", text))
        self._fields = _fields(text)
        try:
            self._program = cel.compile(text)
        except Exception as error:
            raise TriggerError(f"{text!r} is not a CEL expression: {str(error).splitlines()[0]}") from None
        # Unknown names only show when a program runs. An empty event fails in other ways (a missing field), which
        # say nothing against the expression.
        failure = self.evaluate({"event": {}, "name": "", "id": "", "time": datetime.now(UTC), "headers": {}})
        if isinstance(failure, Failed) and "Undefined variable or function" in failure.message:
            raise TriggerError(
                f"{text!r} uses a name that does not exist; there are event, name, id, time, "
                "headers and CEL's functions"
            )

    def evaluate(self, variables: dict[str, Any]) -> Any | Failed:
        """Return the value as Python has it, or `Failed`."""
        event = variables["event"]
        if self._fields is not None:
            event = {name: event[name] for name in self._fields if name in event}
        seen = {"event": event}
        for name in self._beside:
            seen[name] = variables[name]
        try:
            return self._program.execute(seen)
        except (KeyboardInterrupt, SystemExit):
            raise
        except KeyError as error:
            return Failed(f"there is no field {error}", missing=True)
        except BaseException as error:  # a panic inside the CEL library is no Exception, and must stop nothing
            return Failed(str(error))


def _fields(text: str) -> tuple[str, ...] | None:
    """Return the payload's fields that `text` can read; None where it may look at the payload as a whole."""
    found = [_FIELD.match(text, at.start()) for at in _EVENT.finditer(text)]
    names = [field.group(1) for field in found if field is not None]
    return tuple(dict.fromkeys(names)) if len(names) == len(found) else None


def variables(event: Event, fields: dict[str, Any], headers: Mapping[str, str]) -> dict[str, Any]:
    """Build what an expression sees of one event."""
    return {
        "event": fields,
        "name": event.name,
        "id": event.id,
        "time": datetime.fromtimestamp(event.time_ms / 1000, UTC),
        "headers": dict(headers),
    }
