"""Status messages of a service, as python-workflows sends them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from zwrap import __version__
from zwrap.calls.batchjob import batch_job
from zwrap.calls.pod import pod_fields
from zwrap.errors import ZwrapError
from zwrap.host.clock import Clock, elapsed
from zwrap.host.processes import host_id
from zwrap.message.content import STATUS_EXPIRES_S, STATUS_TOPIC, Status
from zwrap.service.contract import Service
from zwrap.transport.contract import Transport

log = logging.getLogger(__name__)

STATUS_INTERVAL_S = 6.0
"""Interval between status messages of an unchanged status, in seconds."""

CHANGE_S = 0.5
"""Time for which a service must be idle, or at work, before that is broadcast, in seconds."""


class ServiceStatus:
    """Status of a service, which a thread broadcasts every few seconds and on change."""

    def __init__(
        self,
        service: Service,
        transport: Transport,
        tag: str | None,
        clock: Clock = elapsed,
        remark: Callable[[], str] = str,
    ) -> None:
        """Prepare to broadcast.

        Args:
            service: The service.
            transport: Its connection.
            tag: Text for the messages.
            clock: Clock for the utilization, in seconds.
            remark: Function that returns what the service waits for; empty: for messages.
        """
        self._remark = remark
        self._service = service
        self._transport = transport
        self._tag = tag
        self._clock = clock
        self._lock = threading.Lock()
        """Guard of the next three attributes: the loop changes them, a thread broadcasts them."""
        self._status = Status.STARTING
        self._since = clock()
        self._spent: dict[Status, float] = {}
        self._changed = threading.Event()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="status", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *exception: object) -> None:
        self.set(Status.END)
        self._ended.set()
        self._changed.set()
        self._thread.join(5)

    def set(self, status: Status) -> None:
        """Change the status; IDLE and PROCESSING are broadcast only if they last."""
        with self._lock:
            self._count()
            self._status = status
        if status not in (Status.IDLE, Status.PROCESSING):
            self._changed.set()

    def tell(self) -> None:
        """Broadcast the status now, because the remark has changed."""
        self._changed.set()

    def _run(self) -> None:
        """Broadcast the status until the end; a message that fails does not end the thread."""
        while True:
            ended = self._ended.is_set()
            self._changed.clear()
            status = self._status
            try:
                self._broadcast(status)
            except (ZwrapError, OSError) as error:
                log.debug("The status could not be sent: %s", error)
            except Exception:
                log.exception("The status could not be sent")
            if ended:
                return
            for _ in range(int(STATUS_INTERVAL_S / CHANGE_S)):
                if self._changed.wait(CHANGE_S) or self._status != status:
                    break

    def _broadcast(self, status: Status) -> None:
        """Broadcast a status, with the utilization since the last broadcast."""
        with self._lock:
            self._count()
            spent, self._spent = self._spent, {}
        total = sum(spent.values()) or 1.0
        body = {
            "host": host_id(),
            "status": status.intval,
            "statustext": status.description,
            "service": self._service.title,
            "serviceclass": self._service.name,
            "utilization": {
                str(each.intval): round(spent_s / total, 4) for each, spent_s in spent.items()
            },
            "workflows": __version__,
            "zwrap": __version__,
            "unforeseen": self._service.faults.unforeseen,
            **extended_status_dictionary(),
        }
        if status is Status.IDLE and (remark := self._remark()):
            body["statustext"] = remark
        if self._service.exclusive:
            body["reads"] = status in (Status.IDLE, Status.PROCESSING) and not self._remark()
        if self._tag:
            body["tag"] = self._tag
        self._transport.broadcast(
            STATUS_TOPIC, body, expires_s=STATUS_EXPIRES_S, replaces=host_id()
        )

    def _count(self) -> None:
        """Add the time since the last count to the current status."""
        now = self._clock()
        self._spent[self._status] = self._spent.get(self._status, 0.0) + now - self._since
        self._since = now


def extended_status_dictionary() -> dict[str, str]:
    """Return further fields of status messages: version, batch job and Kubernetes pod.

    Name and meaning are those of ``zocalo.util.extended_status_dictionary``.
    """
    job, _ = batch_job()
    return {"zocalo": __version__, **job.fields, **pod_fields()}
