"""What a flow itself saw: its run, read back through Metaflow's client from the demo's own datastore."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from headrace.model.errors import TargetError
from headrace.stages.workflow import FIRING_ANNOTATION


def require_metaflow() -> None:
    """Return if Metaflow can be imported.

    Raises:
        TargetError: it is not installed.
    """
    if find_spec("metaflow") is None:
        raise TargetError(
            "the demo runs real Metaflow flows, and this Python has no Metaflow: install `headrace[demo]` with uv"
        )


def metaflow_environment(state: Path) -> dict[str, str]:
    """Return the variables that keep all of Metaflow in the directory `state`, whatever a person has set up."""
    return {
        "METAFLOW_HOME": str(state / "metaflow"),
        "METAFLOW_DATASTORE_SYSROOT_LOCAL": str(state / "metaflow"),
        "METAFLOW_DEFAULT_DATASTORE": "local",
        "METAFLOW_DEFAULT_METADATA": "local",
        "METAFLOW_DEFAULT_ENVIRONMENT": "local",
    }


def parameters_seen(flow: str, firing: str, names: Iterable[str]) -> Mapping[str, Any] | None:
    """Return the parameters with which the flow ran for a firing; None where Metaflow knows of no such run, or of two.

    Args:
        flow: the flow's name, which is its class's.
        firing: the firing's id, which tags the run.
        names: which of the run's artifacts are its parameters.
    """
    # Its configuration is read when it is first imported, so the environment must be in place by then.
    assert "METAFLOW_DATASTORE_SYSROOT_LOCAL" in os.environ
    client: Any = import_module("metaflow")
    client.namespace(None)
    try:
        runs = list(client.Flow(flow).runs(f"{FIRING_ANNOTATION}:{firing}"))
    except client.exception.MetaflowNotFound:
        return None
    if len(runs) != 1 or not runs[0].successful:
        return None
    return {name: getattr(runs[0].data, name) for name in names}
