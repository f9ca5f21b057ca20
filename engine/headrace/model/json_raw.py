"""JSON as its author wrote it: the text of single members, and the text without its spaces."""

from __future__ import annotations

import json
import re
from json.decoder import scanstring  # type: ignore[attr-defined]

# Numbers stay text here: only where they end is asked.
_DECODER = json.JSONDecoder(parse_int=str, parse_float=str)
_SPACE = re.compile(r"[ \t\n\r]*")
_STRING_OR_SPACE = re.compile(r'("(?:[^"\\]|\\.)*")|[ \t\n\r]+')


def raw_members(text: str) -> dict[str, str]:
    """Return each member of a JSON object as the text that stands there; of a repeated one, the last.

    Raises:
        ValueError: `text` is no JSON object, or is nested too deeply.
    """
    members: dict[str, str] = {}
    at = _after(text, _past_space(text, 0), "{")
    at = _past_space(text, at)
    if text[at : at + 1] == "}":
        return members
    while True:
        name, at = scanstring(text, _after(text, at, '"'), True)
        at = _past_space(text, _after(text, _past_space(text, at), ":"))
        try:
            _, end = _DECODER.raw_decode(text, at)
        except RecursionError:
            raise ValueError("it is nested too deeply") from None
        members[name] = text[at:end]
        at = _past_space(text, end)
        if text[at : at + 1] == "}":
            return members
        at = _past_space(text, _after(text, at, ","))


def compact(text: str) -> str:
    """Return JSON text without the spaces between its tokens."""
    return _STRING_OR_SPACE.sub(lambda found: found[1] or "", text)


def _past_space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    assert found is not None
    return found.end()


def _after(text: str, at: int, token: str) -> int:
    if text[at : at + 1] != token:
        raise ValueError(f"{token!r} is missing at character {at}")
    return at + 1
