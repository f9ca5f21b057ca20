"""A role on a machine whose clock is behind: `python -m tests.chaos.clock SECONDS ROLE`.

What the roles are to take for an outage of two hours is a jump of the clock while none of them runs. Only the wall
clock is set back; what measures spans of time runs on.
"""

from __future__ import annotations

import sys
import time

_time, _time_ns = time.time, time.time_ns


def set_back(seconds: int) -> None:
    """Let this process believe that it is so many seconds earlier."""
    time.time = lambda: _time() - seconds
    time.time_ns = lambda: _time_ns() - seconds * 1_000_000_000


if __name__ == "__main__":
    set_back(int(sys.argv[1]))
    # Only now, so that whatever takes a function out of `time` takes the one above.
    from headrace.cli.main import main

    sys.argv = ["headrace", "run", sys.argv[2]]
    main()
