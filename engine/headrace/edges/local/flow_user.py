"""The name under which Metaflow works: it refuses to where it finds none, as for root in a container."""

from __future__ import annotations

import os

FALLBACK_USER = "headrace"
# Where Metaflow looks, and it takes `root` for no name.
_VARIABLES = ("METAFLOW_USER", "SUDO_USER", "USERNAME", "USER")


def environment_with_user() -> dict[str, str]:
    """Return this process's environment, with `METAFLOW_USER` set where Metaflow would find no user's name."""
    environment = dict(os.environ)
    if all(environment.get(name, "") in ("", "root") for name in _VARIABLES):
        environment["METAFLOW_USER"] = FALLBACK_USER
    return environment
