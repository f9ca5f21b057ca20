"""What holds for all tests: with `pytest -n`, its processes share the run's servers."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.shared_servers import SharedServers

_servers = SharedServers()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a process that is to run tests where the servers are; the first one has them started."""
    node.workerinput["servers"] = _servers.described()


def pytest_unconfigure() -> None:
    """End the servers, in the process that started them."""
    _servers.close()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the long tests first, so that no process is left alone with them at the end."""
    items.sort(key=lambda item: "/system/" not in item.nodeid)
