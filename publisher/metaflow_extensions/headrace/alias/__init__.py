"""Metaflow's extension point `alias`: where Kafka is configured, `metaflow.integrations.ArgoEvent` is Headrace's.

Metaflow imports this module with `metaflow.integrations`, and carries it in the code package of every flow, also to
where headrace-publisher is not installed. So nothing here may fail, and where no Kafka is configured it costs next to
nothing and changes nothing.
"""

from __future__ import annotations

import os
import sys

# Not all of HEADRACE_: Kubernetes itself sets such variables where a Service is named headrace.
_NAMES_KAFKA = ("HEADRACE_BOOTSTRAP_SERVERS", "HEADRACE_KAFKA_", "HEADRACE_STATE")


def _aliases() -> list[tuple[str, str]]:
    """Name the object that stands for each alias; Metaflow's own stands for those that are not named."""
    # The exact answer needs an import of the publisher, which whoever does not use Headrace should not pay for.
    if not any(name.startswith(_NAMES_KAFKA) for name in os.environ) and not os.path.exists(".headrace"):
        return []
    try:
        from headrace_publisher.argo_event import ArgoEvent
        from headrace_publisher.settings import is_configured

        return [("ArgoEvent", f"{ArgoEvent.__module__}.{ArgoEvent.__qualname__}")] if is_configured(os.environ) else []
    # An exception would take every other extension's aliases away as well.
    except Exception as error:
        print(
            f"Headrace: headrace-publisher cannot be imported ({error}), so metaflow.integrations.ArgoEvent is "
            "Metaflow's own and publishes to its webhook; install headrace-publisher where this runs.",
            file=sys.stderr,
        )
        return []


ALIASES_DESC = _aliases()
