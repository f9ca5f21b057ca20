"""What holds for all tests."""

from __future__ import annotations

import pytest

SHARED = frozenset({"kafka", "kube", "secure_kafka"})


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that use none of the run's servers: `make test` runs them beside the others."""
    for item in items:
        if not SHARED & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.apart)
