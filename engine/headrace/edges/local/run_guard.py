"""The guard of a local run: `child_guard`, which in the end also kills what the run itself has started.

A flow runs its steps in processes of its own. `child_guard` alone kills the flow only when our process dies, and the
steps would go on. Run as a script that leads a process group, with the standard library only: `python -I -S
run_guard.py COMMAND…`. Standard output gets two lines: the command's pid, and its exit code as `child_guard` has it.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress

# There is no lock whose descriptor must be kept open, so the guard is told to keep one that it has anyway.
_STANDARD_INPUT = "0"


def main(command: list[str]) -> None:
    """Run the command until it ends, or the parent does; then kill what is left of the process group, and thus us."""
    # Isolated Python does not look for modules beside the script.
    sys.path.append(os.path.dirname(os.path.abspath(__file__)))
    import child_guard  # type: ignore[import-not-found]

    install_handlers = child_guard._install_handlers

    def install_handlers_but_one(child_pid: int, waker_fd: int) -> None:
        install_handlers(child_pid, waker_fd)
        # It goes to the whole group, so the flow has it already; passed on, it would interrupt the flow's clearing up.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)

    child_guard._install_handlers = install_handlers_but_one
    code = child_guard.main([_STANDARD_INPUT, *command])
    with suppress(BrokenPipeError):
        os.write(1, f"{code}\n".encode())
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main(sys.argv[1:])
