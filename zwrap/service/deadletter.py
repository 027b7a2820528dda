"""Dead letters of services: their reasons, and how a message becomes one whatever these hold."""

from __future__ import annotations

import logging

from zwrap.errors import TransportError
from zwrap.host.printable import printable, printable_lines, well_formed
from zwrap.transport.contract import Delivery

log = logging.getLogger(__name__)


def dead_letter_reason(delivery: Delivery, error: str, handler: str) -> str:
    """Return the reason of a dead letter: the error, the message, and its handler."""
    message = printable(f"{delivery.message.id}, queue {delivery.source}")
    return (
        f"{printable_lines(error)}\nmessage {message}, attempt {delivery.delivery_count}, {handler}"
    )


def put_aside(delivery: Delivery, reason: str) -> None:
    """Make a message a dead letter, with its reason in escapes if it cannot be written otherwise.

    Raises:
        TransportError: The transport failed.
    """
    try:
        delivery.dead_letter(well_formed(reason))
    except TransportError:
        raise
    except Exception:
        log.exception("The reason of dead letter %s cannot be written", delivery.message.id)
        delivery.dead_letter(reason.encode("ascii", "backslashreplace").decode()[:1000])
