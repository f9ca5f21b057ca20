"""Read: one record of an event topic becomes an event, or a reason why it cannot.

The formats are bare JSON, CloudEvents 1.0 (binary and structured) and the Metaflow envelope; the rules for identity and
time are those of the project's interface page.
"""

from __future__ import annotations

import base64
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

from headrace.model import bounds
from headrace.model.dead_letter import Reason
from headrace.model.event import Event, Position, ReadEvent
from headrace.model.json_raw import raw_members
from headrace.model.times import instant_ms

_STRUCTURED = "application/cloudevents+json"


class RawRecord(NamedTuple):
    """A record as Kafka gave it."""

    position: Position
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    timestamp_ms: int | None
    """Kafka's time, milliseconds since 1970; None where the topic keeps none."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Why a record is no event."""

    reason: Reason
    message: str


class _Refused(Exception):
    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.outcome = Unreadable(reason, message)


def read(record: RawRecord, now_ms: int) -> ReadEvent | Unreadable:
    """Read one record.

    Args:
        record: the bytes and what Kafka knows of them.
        now_ms: the router's clock, milliseconds since 1970; bounds how far ahead an event may lie, and stands in for
            Kafka's time where a topic keeps none.
    """
    try:
        return _read(record, now_ms)
    except _Refused as refused:
        return refused.outcome


def _read(record: RawRecord, now_ms: int) -> ReadEvent:
    value = record.value
    if value is None:
        raise _Refused(Reason.NOT_JSON, "the record has no value")
    if len(value) > bounds.PAYLOAD_BYTES_MAX:
        raise _Refused(
            Reason.PAYLOAD_TOO_LARGE,
            f"the record has {len(value)} bytes; a payload may have {bounds.PAYLOAD_BYTES_MAX}",
        )
    body = _object(value)
    headers = _header_texts(record.headers)
    position = record.position
    event_id, time_ms = headers.get("ce_id") or "", None
    fields, payload = body, None
    if "ce_specversion" in headers:
        pass  # CloudEvents' binary mode: the value is the data, whatever it looks like.
    elif headers.get("content-type", "").startswith(_STRUCTURED) or _looks_structured(body):
        fields, payload = _structured_data(body, value)
        event_id = event_id or str(body.get("id") or "")
        time_ms = _time(body.get("time"))
    elif set(body) == {"name", "payload"} and body["name"] == position.topic and isinstance(body["payload"], dict):
        fields = body["payload"]
        payload = _exact_field(value, "payload")
        event_id = event_id or _metaflow_id(fields)
        time_ms = _metaflow_time(fields)
    if "ce_time" in headers:
        time_ms = _time(headers["ce_time"])
    if time_ms is None:
        time_ms = record.timestamp_ms if record.timestamp_ms is not None else now_ms
    if len(event_id) > bounds.EVENT_ID_CHARACTERS_MAX:
        raise _Refused(
            Reason.BAD_ID,
            f"the event's id has {len(event_id)} characters; it may have {bounds.EVENT_ID_CHARACTERS_MAX}",
        )
    if time_ms > now_ms + bounds.FUTURE_MS_MAX:
        ahead_s = (time_ms - now_ms) // 1000
        raise _Refused(
            Reason.FROM_THE_FUTURE,
            f"the event's time lies {ahead_s} s ahead of the router's clock; "
            f"{bounds.FUTURE_MS_MAX // 1000} s are allowed",
        )
    text = payload if payload is not None else value.decode()
    event = Event(event_id or str(position), position.topic, time_ms, position.partition, position.offset, text)
    return ReadEvent(event, fields, headers)


def _object(value: bytes) -> dict[str, Any]:
    try:
        body = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise _Refused(Reason.NOT_JSON, f"the value is not JSON: {error}") from None
    if not isinstance(body, dict):
        kind = {list: "array", str: "string", type(None): "null", bool: "boolean"}.get(type(body), "number")
        raise _Refused(Reason.NOT_AN_OBJECT, f"the value is a JSON {kind}; an event is a JSON object")
    return body


def _header_texts(headers: tuple[tuple[str, bytes | None], ...]) -> dict[str, str]:
    return {name: value.decode("utf-8", "replace") for name, value in headers if value is not None} if headers else {}


def _looks_structured(body: Mapping[str, Any]) -> bool:
    return body.get("specversion") == "1.0" and all(
        isinstance(body.get(name), str) for name in ("id", "source", "type")
    )


def _structured_data(body: dict[str, Any], value: bytes) -> tuple[dict[str, Any], str]:
    if not _looks_structured(body):
        raise _Refused(
            Reason.BAD_ENVELOPE, "a structured CloudEvent needs specversion 1.0, id, source and type as strings"
        )
    if "data_base64" in body:
        try:
            data = base64.b64decode(body["data_base64"], validate=True)
        except (TypeError, ValueError):
            raise _Refused(Reason.BAD_ENVELOPE, "the CloudEvent's data_base64 is not base64") from None
        return _object(data), data.decode()
    data = body.get("data", {})
    if not isinstance(data, dict):
        raise _Refused(Reason.NOT_AN_OBJECT, "the CloudEvent's data is not a JSON object")
    return data, _exact_field(value, "data") if "data" in body else "{}"


def _exact_field(value: bytes, name: str) -> str:
    try:
        return raw_members(value.decode())[name]
    except ValueError as error:
        raise _Refused(Reason.BAD_ENVELOPE, f"the {name} of the envelope cannot be read: {error}") from None


def _time(text: Any) -> int | None:
    if text is None:
        return None
    try:
        return instant_ms(text)
    except (TypeError, ValueError, OverflowError):
        raise _Refused(Reason.BAD_TIME, f"the event's time {str(text)[:60]!r} is not an RFC 3339 timestamp") from None


def _metaflow_id(payload: Mapping[str, Any]) -> str:
    candidate = payload.get("id")
    if not isinstance(candidate, str):
        return ""
    if candidate == payload.get("pathspec"):
        return candidate
    try:
        uuid.UUID(candidate)
    except ValueError:
        # A field named id that is not Metaflow's own says what the event is about, not which event it is.
        return ""
    return candidate


def _metaflow_time(payload: Mapping[str, Any]) -> int | None:
    stamp = payload.get("timestamp")
    # A user's own field may carry this name; only a plausible count of seconds is Metaflow's.
    if isinstance(stamp, int | float) and not isinstance(stamp, bool) and 0 < stamp < 32_503_680_000:
        return round(stamp * 1000)
    return None
