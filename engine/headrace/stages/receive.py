"""Receive: one HTTP request becomes the records to write, or a refusal that says what is wrong with it.

A request carries a Metaflow envelope, or CloudEvents 1.0 in binary, structured or batched mode. What is written is the
text that came, so no number is rounded on its way; and it is read here exactly as the router will read it (`read`), so
that a sender hears of what would otherwise become a dead letter.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from urllib.parse import unquote

import orjson

from headrace.model import bounds
from headrace.model.errors import EventNameError
from headrace.model.event import Position
from headrace.model.names import check_event_name
from headrace.stages.read import RawRecord, Unreadable, read

STRUCTURED = "application/cloudevents+json"
BATCHED = "application/cloudevents-batch+json"
ATTRIBUTE_PREFIX = "ce-"

_ATTRIBUTE_NAME = re.compile(r"[a-z0-9]+")
_BLANK = re.compile(r"[ \t\r\n]*")
# Only where an element ends is asked of it, so no number is worth converting.
_SCANNER = json.JSONDecoder(parse_float=str, parse_int=str)


class Fault(StrEnum):
    """What is wrong with a request; `read` has the same words for what it finds."""

    NOT_JSON = "not-json"
    NOT_AN_OBJECT = "not-an-object"
    BAD_ENVELOPE = "bad-envelope"
    BAD_NAME = "bad-name"
    BAD_TIME = "bad-time"
    BAD_ID = "bad-id"
    FROM_THE_FUTURE = "from-the-future"
    UNKNOWN_FORMAT = "unknown-format"


@dataclass(frozen=True, slots=True)
class Request:
    """What of an HTTP request matters here."""

    body: bytes
    content_type: str = ""
    """As it came, with its parameters."""
    attributes: tuple[tuple[str, str], ...] = ()
    """The headers that begin with `ce-`, without that, names in lower case, values as they came."""


@dataclass(frozen=True, slots=True)
class ReceivedEvent:
    """One record to write to the topic `name`."""

    name: str
    value: bytes
    headers: tuple[tuple[str, bytes], ...] = ()
    key: bytes | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """Why nothing of a request is written."""

    fault: Fault
    message: str
    index: int | None = None
    """Which event of a batch, from 0."""


class _Refusing(Exception):
    def __init__(self, fault: Fault, message: str) -> None:
        super().__init__(message)
        self.fault = fault


def receive(request: Request, now_ms: int, reserved: frozenset[str]) -> list[ReceivedEvent] | Refused:
    """Return the records of a request in their order, or why it is refused as a whole.

    Args:
        request: the body and what the headers say of it.
        now_ms: the clock, milliseconds since 1970; bounds how far ahead an event may lie.
        reserved: topics that are not for events.
    """
    index: int | None = None
    received = []
    try:
        media_type = request.content_type.partition(";")[0].strip().lower()
        if media_type == BATCHED:
            for number, element in enumerate(list(_elements(request.body))):
                index = number
                received.append(_checked(_structured(element), now_ms, reserved))
        elif media_type == STRUCTURED:
            received.append(_checked(_structured(request.body), now_ms, reserved))
        elif media_type.startswith("application/cloudevents"):
            raise _Refusing(
                Fault.UNKNOWN_FORMAT, f"CloudEvents come as {STRUCTURED} or {BATCHED} here, not as {media_type[:80]}"
            )
        elif request.attributes:
            received.append(_checked(_binary(request), now_ms, reserved))
        else:
            received.append(_checked(_envelope(request.body), now_ms, reserved))
    except _Refusing as refusing:
        return Refused(refusing.fault, str(refusing), index)
    return received


def _checked(event: ReceivedEvent, now_ms: int, reserved: frozenset[str]) -> ReceivedEvent:
    try:
        check_event_name(event.name)
    except EventNameError as error:
        raise _Refusing(Fault.BAD_NAME, str(error)) from None
    if event.name in reserved or event.name.startswith("__"):
        raise _Refusing(Fault.BAD_NAME, f"{event.name} is no event's name: that topic is not for events")
    # A larger event is taken, and set aside by the router with its place, where people look for what went wrong.
    if len(event.value) <= bounds.PAYLOAD_BYTES_MAX:
        outcome = read(RawRecord(Position(event.name, 0, 0), event.key, event.value, event.headers, None), now_ms)
        if isinstance(outcome, Unreadable):
            raise _Refusing(Fault(outcome.reason.value), outcome.message)
    return event


def _envelope(body: bytes) -> ReceivedEvent:
    fields = _object(body, "the body")
    if fields.keys() != {"name", "payload"}:
        raise _Refusing(
            Fault.BAD_ENVELOPE,
            'the body is neither {"name": …, "payload": {…}} with these two fields alone nor, by its headers, a '
            f"CloudEvent (ce-specversion, or {STRUCTURED})",
        )
    if not isinstance(fields["name"], str):
        raise _Refusing(Fault.BAD_NAME, "the envelope's name is no string; it names the event")
    if not isinstance(fields["payload"], dict):
        raise _Refusing(Fault.NOT_AN_OBJECT, "the envelope's payload is not a JSON object")
    return ReceivedEvent(fields["name"], body)


def _structured(body: bytes) -> ReceivedEvent:
    fields = _object(body, "the CloudEvent")
    _check_attributes(fields)
    key = fields.get("partitionkey")
    return ReceivedEvent(
        fields["type"],
        body,
        (("content-type", STRUCTURED.encode()),),
        key.encode() if isinstance(key, str) else None,
    )


def _binary(request: Request) -> ReceivedEvent:
    attributes: dict[str, str] = {}
    for name, text in request.attributes:
        if not _ATTRIBUTE_NAME.fullmatch(name) or name in attributes:
            raise _Refusing(
                Fault.BAD_ENVELOPE, f"the header {ATTRIBUTE_PREFIX}{name[:80]} is no attribute, or is twice there"
            )
        attributes[name] = _decoded(name, text)
    _check_attributes(attributes)
    if request.body:
        _object(request.body, "the CloudEvent's data")
    headers = [(f"ce_{name}", text.encode()) for name, text in attributes.items()]
    if request.content_type:
        headers.append(("content-type", request.content_type.encode("utf-8", "replace")))
    key = attributes.get("partitionkey")
    # A CloudEvent may have no data at all; its payload is then as empty as that of a structured one.
    return ReceivedEvent(
        attributes["type"], request.body or b"{}", tuple(headers), key.encode() if key is not None else None
    )


def _check_attributes(attributes: Mapping[str, Any]) -> None:
    if attributes.get("specversion") != "1.0":
        raise _Refusing(Fault.BAD_ENVELOPE, "the CloudEvent's specversion is not 1.0")
    for name in ("id", "source", "type"):
        text = attributes.get(name)
        if not isinstance(text, str) or not text:
            raise _Refusing(Fault.BAD_ENVELOPE, f"the CloudEvent has no {name}; it must be a text that is not empty")


def _decoded(name: str, text: str) -> str:
    """Undo the percent-encoding that the HTTP binding of CloudEvents asks for."""
    try:
        decoded = unquote(text, errors="strict")
        decoded.encode()
    except UnicodeError:
        raise _Refusing(Fault.BAD_ENVELOPE, f"the header {ATTRIBUTE_PREFIX}{name} is not UTF-8") from None
    return decoded


def _object(text: bytes, what: str) -> dict[str, Any]:
    try:
        fields = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise _Refusing(Fault.NOT_JSON, f"{what} is not JSON: {error}") from None
    if not isinstance(fields, dict):
        raise _Refusing(Fault.NOT_AN_OBJECT, f"{what} is not a JSON object")
    return fields


def _elements(body: bytes) -> Iterator[bytes]:
    """Yield the very text of each element of a JSON array."""
    try:
        # It says whether all of it is JSON; the scanner below only finds where elements begin and end.
        is_array = isinstance(orjson.loads(body), list)
        text = body.decode()
    except orjson.JSONDecodeError as error:
        raise _Refusing(Fault.NOT_JSON, f"the batch is not JSON: {error}") from None
    if not is_array:
        raise _Refusing(Fault.NOT_AN_OBJECT, "the batch is not a JSON array")
    at = _after_blanks(text, _after_blanks(text, 0) + 1)
    while text[at] != "]":
        try:
            _, end = _SCANNER.raw_decode(text, at)
        except (RecursionError, ValueError) as error:
            raise _Refusing(Fault.NOT_JSON, f"the batch cannot be read: {error}") from None
        yield text[at:end].encode()
        at = _after_blanks(text, end)
        if text[at] == ",":
            at = _after_blanks(text, at + 1)


def _after_blanks(text: str, at: int) -> int:
    found = _BLANK.match(text, at)
    assert found is not None
    return found.end()
