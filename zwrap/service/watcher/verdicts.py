"""Station "last word" where the nodes of a cluster share no filesystem with the submit host.

The wrapper's verdict comes as one message that holds the last messages of its step, and the ledger
keeps it: who puts a verdict there first has spoken. What the wrapper sent before has gone out by
itself; a job that died takes with it what it had not sent.
"""

from __future__ import annotations

import logging

import msgspec

from zwrap.attempt.ledger.ledger import Ledger
from zwrap.attempt.record import Attempt, parse_submission
from zwrap.attempt.verdict import Verdict
from zwrap.errors import MessageError
from zwrap.job import State
from zwrap.message import JSON
from zwrap.recipe.envelope import Envelope
from zwrap.service.watcher.lastword import Evidence, died, finished
from zwrap.submission.request import is_handed_over
from zwrap.transport import mover
from zwrap.transport.contract import Transport

log = logging.getLogger(__name__)


def hear(body: JSON, ledger: Ledger, transport: Transport) -> None:
    """Take a wrapper's verdict, and send its last messages if nobody has spoken before.

    MessageError: it is no verdict, or on no attempt that the ledger knows.
    """
    try:
        verdict = msgspec.convert(body, Verdict)
    except msgspec.ValidationError as error:
        raise MessageError(f"This is no verdict on a job: {error}.") from None
    if ledger.words.get(verdict.token) is None:
        raise MessageError(
            f"The ledger holds no attempt {verdict.token} of a cluster without shared filesystem; "
            "its job was submitted with another ledger."
        )
    if ledger.words.speak(verdict.token, _text(verdict)):
        _send(verdict, ledger, transport)
    else:
        log.info("Another word on attempt %s was kept: %s", verdict.token, verdict.cause)


def conclude(
    attempt: Attempt, ledger: Ledger, transport: Transport, wait_s: float
) -> Verdict | None:
    """Have the last word on an attempt whose job has ended, unless somebody had it; what it is.

    None: not yet, the wrapper's own may still come, or somebody else is sending it. A completed job
    that was handed its step is given `wait_s` seconds for that: all wrappers end so, and this
    one's message may have to wait in a broker. MessageError: there is nothing to speak from.
    """
    word = ledger.words.get(attempt.token)
    if word is None:
        raise MessageError("The ledger holds nothing of what was submitted.")
    if word.verdict is None:
        mine = _own(attempt, word.submission, ledger.now(), wait_s)
        if mine is None or not ledger.words.speak(attempt.token, _text(mine)):
            return None
        _send(mine, ledger, transport)
        return mine
    verdict = msgspec.json.decode(word.verdict, type=Verdict)
    if word.sent is None:
        if not ledger.words.take(attempt.token):
            return None
        _send(verdict, ledger, transport)
    return verdict


def _own(attempt: Attempt, kept: str, now: float, wait_s: float) -> Verdict | None:
    """What the batch system's word comes to, or None to wait."""
    submission = parse_submission(kept.encode(), f"The submission of attempt {attempt.token}")
    if attempt.seen_state == State.COMPLETED.value:
        if not is_handed_over(Envelope.from_body(submission.message)):
            return finished(attempt)
        if now - (attempt.ended or now) < wait_s:
            return None
    # Whether it began, and what it printed, is known on its node only.
    return died(attempt, Evidence(submission, True, []))


def _send(verdict: Verdict, ledger: Ledger, transport: Transport) -> None:
    for message in verdict.final:
        mover.send(transport, message)
    ledger.words.mark_sent(verdict.token)


def _text(verdict: Verdict) -> str:
    return msgspec.json.encode(verdict).decode()
