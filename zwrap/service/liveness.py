"""Liveness of a service: an HTTP answer for supervisors that restart hung ones (`--liveness`)."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from zwrap.errors import PermanentError
from zwrap.host.clock import Clock, elapsed
from zwrap.service.contract import Service


class Liveness:
    """Time of the last turn of a service's loop, and whether the service works on a message."""

    def __init__(self, service: Service, clock: Clock = elapsed) -> None:
        self._service = service
        self._clock = clock
        self._turned_at = clock()
        self._busy = False

    def turn(self) -> None:
        """Note that the loop has turned."""
        self._turned_at = self._clock()

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        """Note that the service works on a message inside the context."""
        self.turn()
        self._busy = True
        try:
            yield
        finally:
            self._busy = False
            self.turn()

    def silence_s(self) -> float:
        """Return the time since the last turn, in seconds; 0 during work that may take any time."""
        if self._busy and self._service.unbounded:
            return 0.0
        return self._clock() - self._turned_at


@contextlib.contextmanager
def answering(liveness: Liveness, host: str, port: int, timeout_s: float) -> Iterator[int]:
    """Answer HTTP requests on a port inside the context; yield the port.

    The answer is 200 if the service gave a sign of life in the last `timeout_s` seconds, else 408.

    Raises:
        PermanentError: The port cannot be used.
    """
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer  # slow to load

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            silence_s = liveness.silence_s()
            alive = silence_s < timeout_s
            self.send_response(200 if alive else 408)
            self.send_header("Content-Type", "text/plain")
            self.end_headers()
            text = "alive" if alive else f"no sign of life for {silence_s:.0f} s"
            self.wfile.write(f"{text}\n".encode())

        def log_message(self, *_: object) -> None:
            """Log nothing, because probes come every few seconds."""

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
