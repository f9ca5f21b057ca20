"""A role that cannot stop."""

from __future__ import annotations

import signal
import subprocess
import sys

from tests.support.kafka import DEADLINE_S

HANGING = """
import logging, threading
from headrace.roles.stopping import stop_on_signals
logging.basicConfig()
stop_on_signals(lambda: print("told", flush=True), within_s=0.1)
print("ready", flush=True)
while True:
    threading.Event().wait(1)
"""


def test_a_role_that_hangs_when_it_is_to_stop_ends_and_says_so() -> None:
    command = [sys.executable, "-c", HANGING]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        said, errors = process.communicate(timeout=DEADLINE_S)
    assert (said, process.returncode) == ("told\n", 1)
    assert "did not stop within 0.1 s" in errors
