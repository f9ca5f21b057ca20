"""CEL expressions: filters, keys and computed parameters."""

from __future__ import annotations

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


class Expression:
    """A compiled CEL expression over `event` (the payload), `name`, `id`, `time` and `headers`."""

    __slots__ = ("_program", "text")

    def __init__(self, text: str) -> None:
        """Compile `text`.

        Raises:
            TriggerError: it is not CEL, or it names a variable or function that does not exist.
        """
        self.text = text
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
        try:
            return self._program.execute(variables)
        except (KeyboardInterrupt, SystemExit):
            raise
        except KeyError as error:
            return Failed(f"there is no field {error}", missing=True)
        except BaseException as error:  # a panic inside the CEL library is no Exception, and must stop nothing
            return Failed(str(error))


def variables(event: Event, fields: dict[str, Any], headers: Mapping[str, str]) -> dict[str, Any]:
    """Build what an expression sees of one event."""
    return {
        "event": fields,
        "name": event.name,
        "id": event.id,
        "time": datetime.fromtimestamp(event.time_ms / 1000, UTC),
        "headers": dict(headers),
    }
