"""What a copy of a message tells of the original, on brokers that do not count or give reasons."""

from __future__ import annotations

ATTEMPTS_HEADER = "zwrap_deliveries"
"""How often a message was handed out before this copy of it, plus one.

Without a hyphen, so that a selector of JMS can name it.
"""

BY_BROKER = "The broker put it aside: "
"""What a reason begins with that zwrap did not give."""

REASON_HEADER = "dlq-reason"
"""Why a message is a dead letter."""
