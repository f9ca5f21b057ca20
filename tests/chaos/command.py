"""What the commands of this folder have in common: how they end, and where their results come from."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


def end_cleanly_when_told() -> None:
    """Let SIGTERM end this process as Ctrl-C does, so that it stops what it has started."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))


def provenance() -> dict[str, Any]:
    """Return time, commit and machine, for the head of a result."""
    here, describe = Path(__file__).parent, ["git", "describe", "--always", "--dirty"]
    asked = subprocess.run(describe, cwd=here, capture_output=True, text=True, check=False)
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": asked.stdout.strip() or None,
        "machine": {"processors": os.cpu_count(), "system": platform.platform()},
    }
