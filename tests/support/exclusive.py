"""One at a time, over all processes of a test run."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold a lock on `path`, which is made; wait until nobody else does."""
    with path.open("w") as held:
        # Closing the file lets go of it, as does the end of the process.
        fcntl.flock(held, fcntl.LOCK_EX)
        yield
