"""Headers that copies of a message have, on brokers that do not count or give reasons."""

from __future__ import annotations

ATTEMPTS_HEADER = "zwrap_deliveries"
"""Number of deliveries of a message, that of this copy included.

Without a hyphen, so that a selector of JMS can name it.
"""

BY_BROKER = "The broker put it aside: "
"""Beginning of a reason that zwrap did not give."""

REASON_HEADER = "dlq-reason"
"""Reason of a dead letter."""
