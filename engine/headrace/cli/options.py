"""What several commands take."""

from __future__ import annotations

from typing import Annotated

import typer

from headrace.edges.kafka.clients import check_broker
from headrace.model.errors import SettingsError
from headrace.settings import Settings, load

Json = Annotated[bool, typer.Option("--json", help="Print JSON Lines, each valid against its schema in schemas/.")]
Follow = Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes, until Ctrl-C.")]

# librdkafka's own complaints about unreachable brokers would drown the one sentence that matters.
_QUIET = {"log_level": "2"}
_CHECK_TIMEOUT_S = 5.0


def connected() -> Settings:
    """Read the settings and make sure that a broker answers.

    Raises:
        SettingsError: no Kafka is configured.
        NoBrokerError: none answers.
    """
    settings = load()
    if settings.bootstrap_servers is None:
        raise SettingsError(
            "no Kafka is configured: set HEADRACE_BOOTSTRAP_SERVERS, or start the embedded one with `headrace up` "
            f"in this directory (no state was found in {settings.state})"
        )
    settings = quiet(settings)
    check_broker(settings, _CHECK_TIMEOUT_S)
    return settings


def quiet(settings: Settings) -> Settings:
    """Return the settings for clients that leave the talking to us."""
    from dataclasses import replace

    return replace(settings, kafka={**_QUIET, **settings.kafka})
