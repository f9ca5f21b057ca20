"""Schemas: JSON Schemas (2020-12) of what Headrace reads and writes, generated from the models.

`python -m headrace.operations.schemas DIRECTORY` writes them.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from headrace.model import wire
from headrace.model.dead_letter import DeadLetter
from headrace.model.run import Run
from headrace.model.trigger import RefusedTrigger, TriggerFile, TriggerRecord

DIALECT = "https://json-schema.org/draft/2020-12/schema"

_MODELS: dict[str, tuple[str, Any]] = {
    "trigger": (
        "A trigger, as a file holds it or as headrace.triggers records it; or why a Sensor is none.",
        TriggerFile | TriggerRecord | RefusedTrigger,
    ),
    "event": ("An event of a topic, as the router reads it.", wire.EventListing | wire.UnreadableListing),
    "frame": ("A record of headrace.matches.", wire.WireFrame | wire.WireTick),
    "firing": ("A record of headrace.firings.", wire.WireFiring),
    "run": ("A record of headrace.runs, and a line of `headrace runs --json`.", Run),
    "deadletter": ("A record of headrace.deadletters, and a line of `headrace deadletters list --json`.", DeadLetter),
    "status": ("A line of `headrace status --json`.", wire.RoleListing),
    "lag": ("A line of `headrace lag --json`.", wire.LagListing),
}


def schemas() -> dict[str, str]:
    """Return each schema's text by its file name."""
    texts = {}
    for word, (description, model) in _MODELS.items():
        schema = TypeAdapter(model).json_schema(by_alias=True)
        schema = {"$schema": DIALECT, "title": word, **{k: v for k, v in schema.items() if k != "title"}}
        schema["description"] = description
        texts[f"{word}.schema.json"] = json.dumps(schema, indent=2, sort_keys=True) + "\n"
    return texts


def main() -> None:
    """Write every schema into the directory that the first argument names."""
    directory = Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in schemas().items():
        (directory / name).write_text(text)


if __name__ == "__main__":
    main()
