"""Health: whether a role makes progress, told over HTTP and to `headrace status`."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import orjson
from confluent_kafka import Producer
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from headrace.model.errors import SettingsError
from headrace.settings import Settings

log = logging.getLogger(__name__)

READY_WITHIN_S = 15.0
"""A role whose loop has not come round for this long is not ready."""
ALIVE_WITHIN_S = 120.0
"""A role whose loop has not come round for this long hangs, and should be started anew."""
ANNOUNCE_INTERVAL_S = 1.0


class Health:
    """One role's health. `beat` is called by the role's loop, so that it tells of progress, not of mere life."""

    def __init__(self, settings: Settings, role: str) -> None:
        """Begin as not ready, and tell nobody before `serve`."""
        self._settings = settings
        self._role = role
        self._instance = uuid.uuid4().hex
        self._started = False
        self._beat_s = time.monotonic()
        self._why: str | None = "starting"
        self._server: ThreadingHTTPServer | None = None
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def ready(self) -> None:
        """Say that the role has started."""
        self._started = True
        self.beat()

    def beat(self, why_not: str | None = None) -> None:
        """Say that the role's loop has come round, and why the role is not well, if it is not."""
        self._beat_s = time.monotonic()
        if self._started:
            self._why = why_not

    def why_not_ready(self) -> str | None:
        """Return None where the role is ready, else the reason."""
        silent_s = time.monotonic() - self._beat_s
        if self._started and silent_s > READY_WITHIN_S:
            return f"no progress for {silent_s:.0f} s"
        return self._why

    def why_not_alive(self) -> str | None:
        """Return None unless the role hangs."""
        silent_s = time.monotonic() - self._beat_s
        return f"no progress for {silent_s:.0f} s" if silent_s > ALIVE_WITHIN_S else None

    def serve(self) -> str:
        """Serve /livez, /readyz and /metrics, announce the role each second, and return the address served on.

        Raises:
            SettingsError: the address cannot be had.
        """
        host, _, port = self._settings.http_address.rpartition(":")
        try:
            self._server = ThreadingHTTPServer((host.strip("[]"), int(port)), _handler(self))
        except (OSError, ValueError) as error:
            raise SettingsError(
                f"the role {self._role} cannot serve HTTP on {self._settings.http_address} ({error}): "
                "set HEADRACE_HTTP_ADDRESS to a free address"
            ) from None
        self._server.daemon_threads = True
        address = f"{host}:{self._server.server_address[1]}"
        self._threads = [
            threading.Thread(target=self._server.serve_forever, name="http", daemon=True),
            threading.Thread(target=self._announce, args=(address,), name="announce", daemon=True),
        ]
        for thread in self._threads:
            thread.start()
        return address

    def close(self) -> None:
        """Announce that the role is gone, and stop serving."""
        self._stop.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
        for thread in self._threads:
            thread.join(timeout=5)

    def _announce(self, address: str) -> None:
        producer = Producer({**self._settings.client(), "acks": "1", "message.timeout.ms": "5000", "log_level": "2"})
        while True:
            gone = self._stop.wait(ANNOUNCE_INTERVAL_S)
            why = "stopped" if gone else self.why_not_ready()
            record = self._record(address, why)
            try:
                producer.produce(self._settings.topics.progress, orjson.dumps(record), self._instance, 0)
            except BufferError:
                log.warning("Kafka takes no announcements; headrace status will not see this role")
            producer.poll(0)
            if gone:
                producer.flush(2)
                return

    def _record(self, address: str, why: str | None) -> dict[str, Any]:
        return {
            "version": 1,
            "kind": "role",
            "role": self._role,
            "instance": self._instance,
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "http": address,
            "ready": why is None,
            "why": why,
            "time_ms": time.time_ns() // 1_000_000,
        }


def _handler(health: Health) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        """Answers the three paths."""

        def do_GET(self) -> None:
            match self.path.partition("?")[0]:
                case "/livez":
                    self._answer_health(health.why_not_alive())
                case "/readyz":
                    self._answer_health(health.why_not_ready())
                case "/metrics":
                    self._answer(200, generate_latest(), CONTENT_TYPE_LATEST)
                case _:
                    self._answer(404, b"there are /livez, /readyz and /metrics\n", "text/plain")

        def _answer_health(self, why: str | None) -> None:
            self._answer(200 if why is None else 503, f"{why or 'ok'}\n".encode(), "text/plain; charset=utf-8")

        def _answer(self, status: int, body: bytes, content_type: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            log.debug(format, *args)

    return Handler
