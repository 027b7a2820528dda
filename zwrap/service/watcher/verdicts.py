"""Verdicts that arrive as messages, from clusters whose job directories are not visible here."""

from __future__ import annotations

import contextlib
import logging

import msgspec
from msgspec.structs import replace

from zwrap.attempt.ledger.ledger import Ledger
from zwrap.attempt.refusals import is_noted
from zwrap.attempt.secret import proves
from zwrap.attempt.verdict import Verdict
from zwrap.errors import MessageError
from zwrap.message.jsontext import encode, typed
from zwrap.service.watcher.remote import LedgerSending
from zwrap.transport.contract import Transport

log = logging.getLogger(__name__)


def hear(body: object, ledger: Ledger, transport: Transport, proof: object = None) -> None:
    """Record a wrapper's verdict; send its final messages if it is the first on its attempt.

    One that notes results that were refused afterwards takes the place of what it repeats.
    Of many messages a portion is sent; the others follow when the job has ended.

    Args:
        body: Body of the message.
        ledger: The ledger.
        transport: The transport for the final messages.
        proof: Value of header `PROOF_HEADER`, for which only the wrapper of the attempt has the
            secret. A job that an earlier release submitted has none, and is believed without.

    Raises:
        MessageError: The message is not a verdict, its attempt is not in the ledger, or who sent it
            does not have the secret of the attempt.
        TransportError: The transport cannot be used now.
    """
    try:
        verdict = typed(body, Verdict)
        encode(verdict)  # as the ledger will
    except (msgspec.ValidationError, UnicodeError, RecursionError) as error:
        raise MessageError(f"The message is not a valid verdict on a job: {error}.") from None
    kept = ledger.remote.get(verdict.token)
    if kept is None:
        raise MessageError(
            f"The ledger holds no attempt {verdict.token} of a cluster without shared filesystem; "
            "its job was submitted with another ledger."
        )
    if kept.secret is not None and not proves(proof, kept.secret, body):
        raise MessageError(
            f"The message is not signed with the secret of attempt {verdict.token}, so that it "
            "does not come from its wrapper, whose verdict still counts."
        )
    if ledger.remote.put_verdict(verdict):
        sending = LedgerSending(verdict, ledger)
        with contextlib.closing(sending):  # a long rest is sent when the job has ended
            sending.portion(transport)
    elif kept.verdict and is_noted(verdict) and _repeats(verdict, kept.verdict):
        log.error("Attempt %s: %s", verdict.token, verdict.cause)
        ledger.remote.amend(verdict)
    else:
        log.info("A later verdict on attempt %s was kept: %s", verdict.token, verdict.cause)


def _repeats(verdict: Verdict, first: Verdict) -> bool:
    """Return True if a verdict says the same as the first one, but for its cause."""
    return replace(verdict, cause=first.cause) == first
