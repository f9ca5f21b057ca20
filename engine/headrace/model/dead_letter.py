"""A dead letter: an event or firing set aside with its reason and original bytes, which can be retried."""

from __future__ import annotations

import base64
import hashlib
from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from headrace.model import bounds
from headrace.model.errors import RecordError
from headrace.model.event import Event, Position
from headrace.model.times import instant_text


class Reason(StrEnum):
    """Why something was set aside: the closed set."""

    NOT_JSON = "not-json"
    NOT_AN_OBJECT = "not-an-object"
    BAD_ENVELOPE = "bad-envelope"
    BAD_TIME = "bad-time"
    BAD_ID = "bad-id"
    PAYLOAD_TOO_LARGE = "payload-too-large"
    FROM_THE_FUTURE = "from-the-future"
    LATE = "late"
    BAD_KEY = "bad-key"
    MISSING_FIELD = "missing-field"
    TOO_MANY_MATCHES = "too-many-matches"
    TOO_MANY_PENDING = "too-many-pending"
    TOO_MANY_KEYS = "too-many-keys"
    TOO_MANY_USED = "too-many-used"
    FIRING_TOO_LARGE = "firing-too-large"
    UNREADABLE_RECORD = "unreadable-record"
    UNKNOWN_TEMPLATE = "unknown-template"
    UNKNOWN_FLOW = "unknown-flow"
    TEMPLATE_TEXT = "template-text"
    BAD_MAPPING = "bad-mapping"
    WORKFLOW_TOO_LARGE = "workflow-too-large"
    NAME_TAKEN = "name-taken"
    REFUSED_BY_API = "refused-by-api"
    NO_TARGET = "no-target"
    NAMESPACE_NOT_ALLOWED = "namespace-not-allowed"
    TOO_OLD = "too-old"
    DROPPED = "dropped"


class DeadLetter(BaseModel):
    """One record of `headrace.deadletters`, keyed by `id`."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    version: Literal[1] = 1
    id: str = Field(description="The same thing set aside twice has one id; after a retry it has another.")
    kind: Literal["event", "firing", "record"]
    reason: Reason
    message: str = Field(description="A sentence that says what was wrong.")
    trigger: str | None = Field(None, description="namespace/name, where only one trigger is concerned.")
    topic: str
    partition: int
    offset: int
    time_ms: int = Field(description="The original record's Kafka time, milliseconds since 1970.")
    event_id: str | None = None
    key: str | None = Field(None, description="The original record's key, base64.")
    headers: list[tuple[str, str]] = Field(default_factory=list, description="Name and value, base64.")
    value: str | None = Field(None, description="The original bytes, base64; absent where they were too large.")

    def encode(self) -> bytes:
        """Write the record's bytes."""
        return self.model_dump_json(exclude_none=True).encode()

    @classmethod
    def decode(cls, value: bytes) -> DeadLetter:
        """Read what `encode` wrote.

        Raises:
            RecordError: it is damaged, or of a version that this release does not know.
        """
        try:
            return cls.model_validate_json(value)
        except ValidationError as error:
            raise RecordError(f"a dead letter cannot be read: {error.errors()[0]['msg']}") from None


def dead_letter(
    kind: Literal["event", "firing", "record"],
    reason: Reason,
    message: str,
    position: Position,
    time_ms: int,
    *,
    value: bytes | None,
    key: bytes | None = None,
    headers: list[tuple[str, bytes]] | None = None,
    trigger: str | None = None,
    event_id: str | None = None,
    retry_of: str = "",
) -> DeadLetter:
    """Set one record aside. Bytes beyond the bound stay where they are; the position then stands for them.

    Args:
        retry_of: id of the dead letter whose retry failed again; taking that one away must not take this one along.
    """
    headers = headers or []
    size = len(value or b"") + len(key or b"") + sum(len(name) + len(text or b"") for name, text in headers)
    keep = size <= bounds.DEAD_LETTER_BYTES_MAX
    identity = f"{kind}\x00{reason}\x00{trigger or ''}\x00{position}" + (f"\x00{retry_of}" if retry_of else "")
    return DeadLetter(
        id=hashlib.sha256(identity.encode()).hexdigest()[:16],
        kind=kind,
        reason=reason,
        message=message,
        trigger=trigger,
        topic=position.topic,
        partition=position.partition,
        offset=position.offset,
        time_ms=time_ms,
        event_id=event_id,
        key=_text(key) if keep else None,
        headers=[(name, _text(text) or "") for name, text in headers] if keep else [],
        value=_text(value) if keep else None,
    )


def _text(value: bytes | None) -> str | None:
    return None if value is None else base64.b64encode(value).decode()


def event_dead_letter(event: Event, reason: Reason, message: str, trigger: str | None) -> DeadLetter:
    """Set an event aside for one trigger. Its id and time travel as headers, so that a retry is the same event.

    An envelope has been taken off; `ce_specversion` says that the value is the payload itself.
    """
    headers = [
        ("ce_specversion", b"1.0"),
        ("ce_id", event.id.encode()),
        ("ce_time", instant_text(event.time_ms).encode()),
    ]
    return dead_letter(
        "event",
        reason,
        message,
        Position(event.name, event.partition, event.offset),
        event.time_ms,
        value=event.payload.encode(),
        headers=headers,
        trigger=trigger,
        event_id=event.id,
    )
