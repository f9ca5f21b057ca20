"""Stopping: how a role learns that it is to stop, and what ends it where it cannot.

librdkafka waits without a bound for a broker that is gone, where a commit is still under way when its consumer closes.
Nothing is lost by ending a role at any moment: what it had not handed on, the next process does.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable

log = logging.getLogger(__name__)

STOP_WITHIN_S = 55.0
"""A little less than the 60 s that a pod is given, so that the log says what happened."""


def stop_on_signals(stop: Callable[[], object], within_s: float = STOP_WITHIN_S) -> None:
    """Call `stop` at SIGTERM and SIGINT, and end the process with code 1 where it is still there after `within_s`."""

    def told(number: int, _frame: object) -> None:
        stop()
        ending = threading.Timer(within_s, _end, [within_s])
        ending.daemon = True
        ending.start()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, told)


def _end(within_s: float) -> None:
    log.error("the role did not stop within %g s, as where Kafka is gone for good; its process ends as it is", within_s)
    logging.shutdown()
    os._exit(1)
