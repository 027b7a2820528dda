"""Verdicts that arrive as messages, from clusters whose job directories are not visible here."""

from __future__ import annotations

import logging

import msgspec

from zwrap.attempt.ledger.ledger import Ledger
from zwrap.attempt.verdict import Verdict
from zwrap.errors import MessageError
from zwrap.service.watcher.conclusion import send_remote
from zwrap.transport.contract import Transport

log = logging.getLogger(__name__)


def hear(body: object, ledger: Ledger, transport: Transport) -> None:
    """Record a wrapper's verdict; send its final messages if it is the first on its attempt.

    Raises:
        MessageError: The message is not a verdict, or its attempt is not in the ledger.
        TransportError: The transport cannot be used now.
    """
    try:
        verdict = msgspec.convert(body, Verdict)
    except msgspec.ValidationError as error:
        raise MessageError(f"The message is not a valid verdict on a job: {error}.") from None
    if ledger.remote.get(verdict.token) is None:
        raise MessageError(
            f"The ledger holds no attempt {verdict.token} of a cluster without shared filesystem; "
            "its job was submitted with another ledger."
        )
    if ledger.remote.put_verdict(verdict):
        send_remote(verdict, ledger, transport)
    else:
        log.info("A later verdict on attempt %s was kept: %s", verdict.token, verdict.cause)
