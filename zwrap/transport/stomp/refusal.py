"""Settlement of deliveries of ActiveMQ whose unit was refused; they come again over another link.

A unit is one transaction, of which the server does not tell what it refused.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import NamedTuple

from stomp.utils import Frame

from zwrap.errors import PermanentError, ZwrapError
from zwrap.transport.contract import Settlement, Verb
from zwrap.transport.refused import Refused, keep
from zwrap.transport.stomp.frames import unescaped
from zwrap.transport.stomp.places import Places
from zwrap.transport.stomp.received import HIDDEN, Received

log = logging.getLogger(__name__)

PAUSE_S = 30.0
"""Time until a message comes again for whose results a permission is missing, in seconds."""

_OF_FRAME = ("content-length", "destination", "persistent", "receipt", "transaction")
"""Headers of a frame that are not those of its message."""


class Instead(NamedTuple):
    """The settlement of a delivery when it comes again."""

    settlement: Settlement
    stub_of: str = ""
    """Sentence that tells where the message is kept whole, of which the dead letter is a stub."""


def instead_of(
    unit: Instead, messages: Sequence[Refused], received: Sequence[Received], failure: ZwrapError
) -> dict[str, Instead]:
    """Return, by id, how the deliveries of a refused unit are settled when they come again.

    Args:
        unit: The settlement that was refused.
        messages: The messages of the unit, without copies of deliveries.
        received: The deliveries.
        failure: Reason of the refusal.
    """
    asked = unit.settlement
    if not isinstance(failure, PermanentError):
        again = Instead(Settlement(Verb.RETRY, delay_s=PAUSE_S, counted=False))
        return {each.identity: again for each in received}
    if len(received) > 1:
        return {each.identity: _alone(each, asked, messages, failure) for each in received}
    [message] = received
    if messages:
        return {message.identity: Instead(_dead(asked, messages, failure))}
    return {message.identity: _shortened(unit, message, failure)}


def _alone(
    message: Received, asked: Settlement, messages: Sequence[Refused], failure: ZwrapError
) -> Instead:
    """Return the settlement of one of several deliveries, any of which may be at fault.

    What follows from it is sent again when it is handled alone, as services do with what was
    delivered before.
    """
    if not messages:
        return Instead(asked)
    if asked.verb is Verb.ACK and message.delivery_count == 1:
        return Instead(Settlement(Verb.RETRY))
    return Instead(_dead(asked, messages, failure))


def _dead(asked: Settlement, messages: Sequence[Refused], failure: ZwrapError) -> Settlement:
    """Return the dead letter of a delivery whose messages are refused, which are kept whole."""
    files = dict.fromkeys(keep(each, str(failure)).sentence for each in messages)
    reason = f"A message that follows from it cannot be sent: {failure}. {' '.join(files)}"
    return Settlement(Verb.DEAD_LETTER, _with(asked, reason))


def _shortened(unit: Instead, message: Received, failure: ZwrapError) -> Instead:
    """Return the settlement of a delivery whose own copy is refused: it is kept, with a stub."""
    if unit.stub_of:
        log.error(
            "A dead letter of queue %r is in its file only, the server refuses the short one, "
            "too: %s", message.source, failure,
        )  # fmt: skip
        return Instead(Settlement(Verb.ACK))
    reason = _with(unit.settlement, f"The message cannot be kept on the server: {failure}.")
    headers = {key: each for key, each in message.own_headers.items() if key not in HIDDEN}
    kept = keep(Refused(message.source, False, headers, message.body), reason)
    if not kept.in_file:  # it stays where it is
        return Instead(Settlement(Verb.RETRY, delay_s=PAUSE_S, counted=False))
    return Instead(Settlement(Verb.DEAD_LETTER, f"{reason}\n{kept.sentence}"), kept.sentence)


def _with(asked: Settlement, reason: str) -> str:
    """Return a reason, after that of the dead letter that was asked for, if it was one."""
    return f"{asked.reason}\n{reason}" if asked.verb is Verb.DEAD_LETTER else reason


def whole(sent: Frame, places: Places) -> Refused:
    """Return a SEND frame as a message that is to be kept in a file."""
    topic, name = places.named(unescaped(sent.headers["destination"]))
    own = {
        unescaped(key): unescaped(str(value))
        for key, value in sent.headers.items()
        if key not in _OF_FRAME
    }
    return Refused(name, topic, own, sent.body)
