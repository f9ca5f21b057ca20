"""What becomes of an event on its topic: JSON as the value, CloudEvents 1.0 attributes as headers. No I/O here."""

import math
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from enum import Enum
from itertools import chain
from typing import Any, NamedTuple

import orjson

from .errors import InvalidAttribute, InvalidEventName, InvalidPayload, PayloadTooLarge

PAYLOAD_BYTES_MAX = 1024 * 1024
"""The default bound of a payload in bytes, which is the bound of Headrace's HTTP ingress too."""

_LEGAL_NAME = re.compile(r"[A-Za-z0-9._-]{1,249}")
_RESERVED_HEADERS = frozenset({"ce_specversion", "ce_id", "ce_type", "ce_source", "ce_time", "content-type"})
_ORJSON_OPTIONS = orjson.OPT_PASSTHROUGH_DATACLASS
_NESTING_MAX = 254  # orjson's own limit
_ID_ENDINGS = [f"{number:03x}" for number in range(16**3)]

Payload = Mapping[str, Any]
Headers = Mapping[str, str | bytes]


class Record(NamedTuple):
    """One event as Kafka gets it. A named tuple, as building one costs a quarter of a frozen dataclass."""

    event: str
    id: str
    key: str | bytes | None
    value: bytes
    headers: dict[str, str | bytes | None]


def check_event_name(name: object) -> str:
    """Returns `name` if it can name a topic; raises InvalidEventName otherwise."""
    if not isinstance(name, str):
        raise InvalidEventName(f"An event's name must be a string, not {type(name).__name__}: {name!r}.")
    if not _LEGAL_NAME.fullmatch(name) or name in {".", ".."}:
        shown = name if len(name) <= 300 else f"{name[:300]}… ({len(name)} characters)"
        raise InvalidEventName(
            f"{shown!r} cannot name an event, as it cannot name a Kafka topic: use 1 to 249 of the characters "
            "A-Z a-z 0-9 . _ - (and neither '.' nor '..' alone)."
        )
    return name


def encode_payload(payload: Payload | None, event: str, payload_bytes_max: int = PAYLOAD_BYTES_MAX) -> bytes:
    """The payload as JSON; None is the empty object.

    Keys must be strings, numbers finite, integers within 64 bits. Besides JSON's types, `datetime`, `date`,
    `time` (as RFC 3339 text; a naive datetime stays without an offset), `UUID` and `Enum` are taken.
    Metaflow's own class refuses these last ones, so this only accepts more. Raises InvalidPayload and
    PayloadTooLarge.
    """
    if not isinstance(payload, dict):
        if payload is None:
            return b"{}"
        if not isinstance(payload, Mapping):
            raise InvalidPayload(
                f"The payload of event {event} must be a JSON object (a dict), not {type(payload).__name__}."
            )
        payload = dict(payload)
    try:
        value = orjson.dumps(payload, None, _ORJSON_OPTIONS)
    except (TypeError, RecursionError) as error:
        raise _not_json(event, _fault(payload, "", 1) or str(error)) from error
    # orjson writes NaN and Infinity as null, which would turn a wrong number into a missing one. Only where
    # the text holds a null is there anything to look for.
    if value.find(b"null") >= 0 and (fault := _fault(payload, "", 1)):
        raise _not_json(event, fault)
    if len(value) > payload_bytes_max:
        raise PayloadTooLarge(
            f"The payload of event {event} has {len(value):,} bytes as JSON, and {payload_bytes_max:,} are "
            "allowed: store the data elsewhere and publish its address."
        )
    return value


def _not_json(event: str, fault: str) -> InvalidPayload:
    return InvalidPayload(f"The payload of event {event} cannot be written as JSON: {fault}.")


def _fault(value: object, path: str, depth: int) -> str | None:
    """What keeps `value` from being JSON, with the path to it, or None."""
    if depth > _NESTING_MAX and isinstance(value, dict | list | tuple):
        return f"`{path[:80]}…` is nested deeper than {_NESTING_MAX} levels"
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                return f"the key {key!r} {f'in `{path}` ' if path else ''}is not a string"
            if fault := _fault(item, f"{path}.{key}" if path else key, depth + 1):
                return fault
        return None
    if isinstance(value, list | tuple):
        for index, item in enumerate(value):
            if fault := _fault(item, f"{path}[{index}]", depth + 1):
                return fault
        return None
    if isinstance(value, Enum):
        return _fault(value.value, path, depth + 1)
    if isinstance(value, float) and not math.isfinite(value):
        return f"`{path}` is {value}, which JSON has not"
    try:
        orjson.dumps(value, None, _ORJSON_OPTIONS)
    except TypeError as error:
        return f"`{path}` ({type(value).__name__}): {error}"
    return None


class RecordBuilder:
    """Builds the records of one event; what is the same for all of them is checked and made once."""

    def __init__(
        self,
        event: str,
        *,
        source: str,
        headers: Headers | None = None,
        payload_bytes_max: int = PAYLOAD_BYTES_MAX,
    ) -> None:
        self._event = check_event_name(event)
        self._payload_bytes_max = payload_bytes_max
        self._headers: dict[str, str | bytes | None] = {
            "ce_specversion": "1.0",
            "ce_type": event,
            "ce_source": source,
            "content-type": "application/json",
        }
        if headers:
            self._headers |= _checked_headers(headers, event)

    def build(
        self,
        payload: Payload | None,
        *,
        key: str | bytes | None = None,
        id: str | None = None,
        time: datetime | str | None = None,
    ) -> Record:
        """One record; the parameters and errors are those of `build_record`."""
        if id is None:
            id = new_id()
        elif not isinstance(id, str) or not id:
            raise InvalidAttribute(f"The id of event {self._event} must be a string, and not empty: {id!r}.")
        return Record(
            self._event,
            id,
            self.checked_key(key),
            encode_payload(payload, self._event, self._payload_bytes_max),
            {**self._headers, "ce_id": id, "ce_time": _time_or_now(time, self._event)},
        )

    def checked_key(self, key: str | bytes | None) -> str | bytes | None:
        """`key`, if it can be a Kafka key; raises InvalidAttribute otherwise."""
        if key is not None and not isinstance(key, str | bytes):
            raise InvalidAttribute(f"The key of event {self._event} must be str or bytes: {key!r}.")
        return key

    def stream(
        self, payloads: Iterable[Payload], *, time: datetime | str | None = None
    ) -> Iterator[tuple[str, bytes, dict[str, str | bytes | None]]]:
        """The id, value and headers of one record for each payload, as fast as can be.

        The headers are one and the same dict throughout, which the next step changes.
        """
        event, payload_bytes_max = self._event, self._payload_bytes_max
        headers = {**self._headers, "ce_id": "", "ce_time": _time_or_now(time, event)}
        for payload, id in zip(payloads, chain.from_iterable(_id_blocks()), strict=False):
            headers["ce_id"] = id
            yield id, encode_payload(payload, event, payload_bytes_max), headers


def build_record(
    event: str,
    payload: Payload | None = None,
    *,
    source: str,
    key: str | bytes | None = None,
    id: str | None = None,
    time: datetime | str | None = None,
    headers: Headers | None = None,
    payload_bytes_max: int = PAYLOAD_BYTES_MAX,
) -> Record:
    """The record of an event.

    `source` is the CloudEvents source, a URI reference. `key` is the Kafka key (None: none). `id` defaults to
    a new UUID. `time` is when the event occurred: an aware datetime or RFC 3339 text; default now. `headers`
    are further headers, CloudEvents extensions (`ce_subject`) among them. Raises InvalidEventName,
    InvalidAttribute, InvalidPayload, PayloadTooLarge.
    """
    builder = RecordBuilder(event, source=source, headers=headers, payload_bytes_max=payload_bytes_max)
    return builder.build(payload, key=key, id=id, time=time)


def _checked_headers(headers: Headers, event: str) -> dict[str, str | bytes]:
    for name, value in headers.items():
        if not isinstance(name, str) or not name or not isinstance(value, str | bytes):
            raise InvalidAttribute(f"A header of event {event} must be a name with str or bytes: {name!r}.")
        # Kafka's client crashes on a name that is not Unicode, and cuts one that holds a zero.
        if "\0" in name or any("\ud800" <= character <= "\udfff" for character in name):
            raise InvalidAttribute(f"The header name {name!r} of event {event} cannot be written as UTF-8 text.")
        if name.lower() in _RESERVED_HEADERS:
            raise InvalidAttribute(
                f"The header {name} of event {event} is set by the publisher: use the argument for it, or another name."
            )
    return dict(headers)


def _time_or_now(time: datetime | str | None, event: str) -> str:
    """The time, or now, as RFC 3339 text in UTC; raises InvalidAttribute for one that names no instant."""
    try:
        moment = datetime.fromisoformat(time) if isinstance(time, str) else time or datetime.now(UTC)
        if not isinstance(moment, datetime) or moment.tzinfo is None:
            raise ValueError("it has no time zone" if isinstance(moment, datetime) else "it is no datetime")
        return moment.astimezone(UTC).isoformat(timespec="microseconds")[:-6] + "Z"
    except (ValueError, OverflowError) as error:
        raise InvalidAttribute(
            f"The time {time!r} of event {event} is unusable: {error}. Give an aware datetime, such as "
            "datetime.now(UTC), or RFC 3339 text, such as 2026-01-31T12:00:00Z."
        ) from error


def new_id() -> str:
    """A random UUID (version 4) as text."""
    return str(uuid.uuid4())


def _id_blocks() -> Iterator[list[str]]:
    """Endless lists of new UUIDs.

    One call to the system's random source for each UUID would cost more than all the rest of a record. So
    those of one list share all but the last three digits, which leaves 110 random bits, and these three
    count.
    """
    while True:
        start = new_id()[:-3]
        yield [start + ending for ending in _ID_ENDINGS]
