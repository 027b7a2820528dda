"""Headers of copies of a message, on brokers that neither count deliveries nor keep reasons."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from zwrap.units import whole_number

ATTEMPTS_HEADER = "zwrap_deliveries"
"""Number of deliveries of a message, the one of this copy included.

The name has no hyphen, so that a selector of JMS can contain it.
"""

EXPIRES_HEADER = "zwrap_expires_ms"
"""Time at which a message that is tried again expires, in milliseconds since the epoch, by the host
that gave it back; a broker forgets it while it delays the message."""

LIFETIME_HEADER = "zwrap_lifetime_ms"
"""Lifetime that the sender gave to a message which is tried again or dead, in milliseconds."""

BY_BROKER = "The broker put it aside: "
"""Beginning of a reason that zwrap did not give."""

REASON_HEADER = "dlq-reason"
"""Reason of a dead letter."""

EXCHANGE_HEADER = "original-exchange"
"""Exchange to which a refused message in a file was to be sent."""

STUB_HEADER = "zwrap-stub"
"""Place of the file that holds the whole message; mark of a short dead letter in its place."""


def host_ms() -> float:
    """Return the time of this host, in milliseconds since the epoch."""
    return time.time() * 1000


def has_expired(headers: Mapping[str, object], now_ms: Callable[[], float] = host_ms) -> bool:
    """Return whether a message that was tried before has expired, by its headers.

    `now_ms` is asked for the time in milliseconds since the epoch only if there is such a header.
    """
    expires_ms = whole_number(str(headers.get(EXPIRES_HEADER, "")))
    return expires_ms is not None and expires_ms <= now_ms()
