"""Faust's settings from librdkafka's properties."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def faust_settings(properties: Mapping[str, str]) -> dict[str, Any]:
    servers = properties["bootstrap.servers"].split(",")
    return {"broker": [f"kafka://{s.strip()}" for s in servers], "broker_credentials": None}
