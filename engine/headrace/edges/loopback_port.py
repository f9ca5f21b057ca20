"""TCP ports of the loopback address: is one taken, and which one is free."""

from __future__ import annotations

import errno
import random
import socket

from headrace.model.errors import HeadraceError

LOOPBACK = "127.0.0.1"

# Below the ephemeral range of Linux and macOS: a client that retries while its server is down could otherwise
# be given the server's own port as its source port, connect to itself, and so keep the server from coming
# back.
_FIRST, _LAST = 20_000, 32_000
_ATTEMPTS = 200


class PortUnusable(HeadraceError):
    """A port of the loopback address cannot be had."""


def free_port(*, besides: int | None = None) -> int:
    """Return a port that nobody listens on, not `besides`. Raises `PortUnusable` when none is found."""
    for _ in range(_ATTEMPTS):
        port = random.randint(_FIRST, _LAST)
        if port != besides and is_free(port):
            return port
    raise PortUnusable(f"{LOOPBACK} has no free port from {_FIRST} to {_LAST}: stop some program.")


def is_free(port: int) -> bool:
    """Say whether nobody listens on the port. Raises `PortUnusable` when this user may not do so either."""
    with socket.socket() as probe:
        # As servers do: connections of an earlier run that still linger do not make the port taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise PortUnusable(
                f"port {port} of {LOOPBACK} cannot be used ({error.strerror}): choose another port."
            ) from error
        return True


def is_listened_on(port: int) -> bool:
    """Say whether somebody accepts connections on the port; unlike `is_free` it gets in no bind's way."""
    with socket.socket() as probe:
        return probe.connect_ex((LOOPBACK, port)) == 0
