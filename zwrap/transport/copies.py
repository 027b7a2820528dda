"""Headers of copies of a message, on brokers that neither count deliveries nor keep reasons."""

from __future__ import annotations

ATTEMPTS_HEADER = "zwrap_deliveries"
"""Number of deliveries of a message, the one of this copy included.

The name has no hyphen, so that a selector of JMS can contain it.
"""

BY_BROKER = "The broker put it aside: "
"""Beginning of a reason that zwrap did not give."""

REASON_HEADER = "dlq-reason"
"""Reason of a dead letter."""
