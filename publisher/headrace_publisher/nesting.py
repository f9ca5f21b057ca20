"""Which thread is inside a callback of librdkafka, where calls that run callbacks must not be made.

Its Python binding aborts the process when such calls are nested: when a callback flushes, or a signal handler does
that interrupts a callback.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from .errors import PublisherUnusable


class _Inside(threading.local):
    client = False


_inside = _Inside()


@contextmanager
def running_callbacks() -> Iterator[None]:
    """Goes around each call to librdkafka that may run callbacks."""
    _inside.client = True
    try:
        yield
    finally:
        _inside.client = False


def in_callback() -> bool:
    """Whether the calling thread is inside such a call, and thus in a callback."""
    return _inside.client


def refuse_in_callback(action: str) -> None:
    """Raises PublisherUnusable where the thread is in a callback, for whose end `action` would wait."""
    if _inside.client:
        raise PublisherUnusable(
            f"Do not {action} from an on_delivery callback, for whose end it would wait: leave it to another thread."
        )
