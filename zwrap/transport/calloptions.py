"""Options of calls that code written for python-workflows makes, and that zwrap has nothing for."""

from __future__ import annotations

import logging
from collections.abc import Mapping

log = logging.getLogger(__name__)

HINTS = ("exclusive", "priority", "retroactive")
"""Options of ActiveMQ that ask for what it may do or not; RabbitMQ has none of them."""


def check_options(call: str, further: Mapping[str, object], refusal: type[Exception]) -> None:
    """Raise `refusal` for an option that is not carried out; warn of one that is only a hint.

    Options that are not set (``transaction=None``) ask for nothing.
    """
    for name, value in further.items():
        if name in HINTS and value:
            log.warning("%s: %r has no effect; zwrap's transports have nothing like it", call, name)
        elif value and name not in HINTS:
            raise refusal(
                f"{call}: zwrap's transports do not carry out option {name!r} ({value!r})."
            )
