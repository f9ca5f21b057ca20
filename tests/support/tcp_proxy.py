"""A wire that can be cut: passes TCP connections on to a server, until it is told to fail as networks do."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self

LOOPBACK = "127.0.0.1"
_CHUNK_BYTES = 65536


class TcpProxy:
    """Listens on a loopback port of its own: ``with TcpProxy(host, port) as proxy: ...``."""

    def __init__(self, host: str, port: int) -> None:
        self._server = (host, port)
        self._lock = threading.Lock()
        self._connections: list[socket.socket] = []
        self._listener: socket.socket | None = None
        self._deaf = False
        self.port = 0

    def __enter__(self) -> Self:
        self.mend()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.cut()

    @property
    def whole(self) -> bool:
        """Whether it passes everything on."""
        with self._lock:
            return self._listener is not None and not self._deaf

    def mend(self) -> None:
        """Pass connections on again, on the same port as before."""
        listener = socket.create_server((LOOPBACK, self.port))
        self.port = listener.getsockname()[1]
        with self._lock:
            self._listener, self._deaf = listener, False
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def cut(self) -> None:
        """Break all connections and refuse new ones."""
        with self._lock:
            listener, self._listener = self._listener, None
            connections, self._connections = self._connections, []
        if listener is not None:
            # Only a shutdown wakes the thread that waits for connections.
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        for connection in connections:
            _end(connection)

    def lose_answers(self) -> None:
        """Go on passing requests to the server, but lose what it answers."""
        with self._lock:
            self._deaf = True

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                server = socket.create_connection(self._server)
                with self._lock:
                    if self._listener is not listener:
                        _end(client)
                        _end(server)
                        return
                    self._connections += [client, server]
                threading.Thread(target=self._pump, args=(client, server, False), daemon=True).start()
                threading.Thread(target=self._pump, args=(server, client, True), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, answers: bool) -> None:
        with suppress(OSError):
            while part := source.recv(_CHUNK_BYTES):
                if not (answers and self._deaf):
                    sink.sendall(part)
        _end(source)
        _end(sink)


def _end(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
