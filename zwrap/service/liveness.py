"""Is the service alive? An HTTP answer for those who restart what hangs (`--liveness`)."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Any

from zwrap.errors import PermanentError
from zwrap.service.contract import Service


class Liveness:
    """When the loop of a service last turned, and since when it is at work on a message."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._turned_at = time.monotonic()
        self._busy = False

    def turn(self) -> None:
        """The loop goes on."""
        self._turned_at = time.monotonic()

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        """While this lasts, a message is worked on."""
        self.turn()
        self._busy = True
        try:
            yield
        finally:
            self._busy = False
            self.turn()

    def silence_s(self) -> float:
        """Seconds for which there was no sign of life where one was due."""
        if self._busy and self._service.unbounded:
            return 0.0
        return time.monotonic() - self._turned_at


@contextlib.contextmanager
def answering(liveness: Liveness, host: str, port: int, timeout_s: float) -> Iterator[int]:
    """Answer on a port, 200 if alive and 408 if not for `timeout_s` seconds; the port."""
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer  # slow to load

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            silence_s = liveness.silence_s()
            alive = silence_s < timeout_s
            self.send_response(200 if alive else 408)
            self.send_header("Content-Type", "text/plain")
            self.end_headers()
            words = "alive" if alive else f"no sign of life for {silence_s:.0f} s"
            self.wfile.write(f"{words}\n".encode())

        def log_message(self, *_: Any) -> None:
            """Probes come every few seconds; they are not worth a line each."""

    try:
        server = ThreadingHTTPServer((host, port), Answer)
    except OSError as error:
        raise PermanentError(
            f"Liveness cannot be answered on port {port}: {error.strerror}. Choose another with "
            "--liveness-port."
        ) from None
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, name="liveness", daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
