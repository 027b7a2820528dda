"""Middleware that counts the calls of a transport, or measures the time in callbacks."""

from __future__ import annotations

import functools
import logging
import time
from typing import Any

from zwrap.compat.workflows.transport.middleware.chain import (
    BaseTransportMiddleware,
    Call,
    get_callback_source,
)


def _counted(name: str) -> Call:
    """Return the method that counts the calls of a name which went well."""

    def method(self: Any, call_next: Call, *args: Any, **kwargs: Any) -> Any:
        result = call_next(*args, **kwargs)
        setattr(self, f"{name}_count", getattr(self, f"{name}_count") + 1)
        return result

    return method


class CounterMiddleware(BaseTransportMiddleware):
    """Counts of calls, in attributes such as `send_count`."""

    subscribe_count = subscribe_broadcast_count = 0
    send_count = broadcast_count = 0
    ack_count = nack_count = 0
    transaction_begin_count = transaction_abort_count = transaction_commit_count = 0

    subscribe = _counted("subscribe")
    subscribe_broadcast = _counted("subscribe_broadcast")
    send = _counted("send")
    broadcast = _counted("broadcast")
    ack = _counted("ack")
    nack = _counted("nack")
    transaction_begin = _counted("transaction_begin")
    transaction_abort = _counted("transaction_abort")
    transaction_commit = _counted("transaction_commit")


class TimerMiddleware(BaseTransportMiddleware):
    """Log of the time that each callback takes."""

    def __init__(self, logger: logging.Logger | None = None, level: int = logging.INFO) -> None:
        self.logger = logger or logging.getLogger("workflows.transport.middleware")
        self.level = level

    def _subscribe(self, call_next: Call, channel: Any, callback: Call, **kwargs: Any) -> Any:
        """Subscribe with a callback whose time is measured."""

        @functools.wraps(callback)
        def timed(header: Any, message: Any) -> Any:
            begin = time.perf_counter()
            try:
                return callback(header, message)
            finally:
                source, taken_s = get_callback_source(callback), time.perf_counter() - begin
                self.logger.log(self.level, "Callback for %s took %.4f seconds", source, taken_s)

        return call_next(channel, timed, **kwargs)

    subscribe = subscribe_broadcast = subscribe_temporary = _subscribe
