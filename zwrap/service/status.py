"""Status messages of a service, as python-workflows sends them."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

from zwrap import __version__
from zwrap.calls.batchjob import batch_job
from zwrap.errors import TransportError
from zwrap.host.processes import host_id
from zwrap.message import STATUS_TOPIC
from zwrap.service.contract import Service
from zwrap.transport.contract import Transport

log = logging.getLogger(__name__)

STATUS_INTERVAL_S = 6.0
STATUS_EXPIRES_S = 15.0

STARTING, IDLE, PROCESSING, SHUTDOWN, END = 1, 2, 4, 5, 6
STATUS_TEXT = {
    STARTING: "starting",
    IDLE: "idle",
    PROCESSING: "processing",
    SHUTDOWN: "shutting down",
    END: "shutdown",
}


class ServiceStatus:
    """Broadcasts the status of a service every few seconds and on change."""

    def __init__(self, service: Service, transport: Transport, tag: str | None) -> None:
        self._service = service
        self._transport = transport
        self._tag = tag
        self._code = STARTING
        self._since = time.monotonic()
        self._spent: dict[int, float] = {}
        self._changed = threading.Event()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="status", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *exception: object) -> None:
        self.set(END)
        self._ended.set()
        self._changed.set()
        self._thread.join(5)

    def set(self, code: int) -> None:
        """Change the status; going idle is told only if it lasts."""
        self._count()
        self._code = code
        if code not in (IDLE, PROCESSING):
            self._changed.set()

    def _run(self) -> None:
        told = -1
        while True:
            ended = self._ended.is_set()
            self._changed.clear()
            told = self._code
            self._tell(told)
            if ended:
                return
            for _ in range(int(STATUS_INTERVAL_S / 0.5)):
                if self._changed.wait(0.5) or self._code != told:
                    break

    def _tell(self, code: int) -> None:
        self._count()
        total = sum(self._spent.values()) or 1.0
        body: dict[str, Any] = {
            "host": host_id(),
            "status": code,
            "statustext": STATUS_TEXT[code],
            "service": self._service.name,
            "serviceclass": self._service.name,
            "utilization": {
                str(key): round(spent / total, 4) for key, spent in self._spent.items()
            },
            "workflows": __version__,
            "zwrap": __version__,
            **extended_status_dictionary(),
        }
        self._spent = {}
        if self._tag:
            body["tag"] = self._tag
        try:
            self._transport.broadcast(
                STATUS_TOPIC, body, expires_s=STATUS_EXPIRES_S, replaces=host_id()
            )
        except (TransportError, OSError) as error:
            log.debug("The status could not be sent: %s", error)

    def _count(self) -> None:
        """Add the time since the last count to the current status."""
        now = time.monotonic()
        self._spent[self._code] = self._spent.get(self._code, 0.0) + now - self._since
        self._since = now


def extended_status_dictionary() -> dict[str, str]:
    """Fields that say where this process runs: version, and batch job if there is one.

    Name and meaning are those of ``zocalo.util.extended_status_dictionary``.
    """
    job, _ = batch_job()
    return {"zocalo": __version__, **job.fields}
