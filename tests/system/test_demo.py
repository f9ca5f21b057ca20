"""The demo as a newcomer runs it: a Kafka of its own, real Metaflow runs, and nothing left behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

from headrace.cli.demo.plan import script
from headrace.edges.loopback_port import free_port

TIMEOUT_S = 240.0
HEADRACE = [sys.executable, "-m", "headrace"]


def environment() -> dict[str, str]:
    """A newcomer's: nothing of Headrace's is set, and the terminal is wide enough for whole lines."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HEADRACE_", "METAFLOW_"))}
    return {**kept, "COLUMNS": "200"}


def left_of(state: Path) -> list[int]:
    """Processes that still name the demo's state directory in their command line or environment."""
    left = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
        except OSError:
            continue
        if str(state).encode() in words and int(process.name) != os.getpid():
            left.append(int(process.name))
    return left


def test_once_shows_every_expected_run_and_ends_by_itself(tmp_path: Path) -> None:
    state = tmp_path / "state"
    command = [*HEADRACE, "demo", "--once", "--state", str(state), "--port", str(free_port())]
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=TIMEOUT_S)
    assert done.returncode == 0, done.stdout + done.stderr
    # Which day it is changes the runs' parameters, not their number.
    expected = script(date.today()).runs
    assert len(expected) >= 20
    assert len(re.findall(r"(?m)^ok +demo/", done.stdout)) == len(expected)
    assert sum(len(run.labels) == 2 for run in expected) >= 5
    assert "Everything is as expected." in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    assert left_of(state) == []


def test_ctrl_c_ends_it_and_leaves_nothing_running(tmp_path: Path) -> None:
    state = tmp_path / "state"
    command = [*HEADRACE, "demo", "--state", str(state), "--port", str(free_port())]
    output = tmp_path / "output"
    with output.open("wb") as file:
        demo = subprocess.Popen(command, cwd=tmp_path, env=environment(), stdout=file, stderr=file)
    try:
        deadline_s = time.monotonic() + TIMEOUT_S
        while b" run " not in output.read_bytes():
            assert demo.poll() is None, output.read_text()
            assert time.monotonic() < deadline_s, output.read_text()
            time.sleep(0.1)
        demo.send_signal(signal.SIGINT)
        demo.wait(TIMEOUT_S)
    finally:
        demo.kill()
    assert "Traceback" not in output.read_text()
    assert left_of(state) == []
