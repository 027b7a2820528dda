"""Station "last word": speaks for a job that has ended and cannot speak any more.

Order of trust:

1. `verdict.json` in the job directory: whoever put it there has spoken.
2. A claim without a verdict: the wrapper lived and died. That is a failure, whatever the exit
   status of the script that went on after it.
3. Neither: no wrapper of ours ever ran. What the batch system says holds; of a job that it calls
   completed nothing is sent, for its commands may have sent it themselves.

The verdict is put in place before anything is sent, so that nobody speaks twice. What the wrapper
left in its outbox goes first.
"""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path
from typing import Any, NamedTuple

from msgspec.structs import replace

from zwrap.attempt import retry
from zwrap.attempt.directory import JobDirectory
from zwrap.attempt.record import (
    LOST,
    STUCK,
    AskedResources,
    Attempt,
    KeptSubmission,
    read_submission,
)
from zwrap.attempt.verdict import Claim, Verdict
from zwrap.errors import MessageError
from zwrap.host.processes import ProcessIdentity, is_alive
from zwrap.job import Outcome, State
from zwrap.message import ID_HEADER, Outgoing, child_id
from zwrap.recipe.envelope import Envelope
from zwrap.transport import mover
from zwrap.transport.contract import Transport

log = logging.getLogger(__name__)

COMPLETED = "Finished processing"
"""What a wrapper says on output `completed`, however it ended."""

TAIL_BYTES, TAIL_LINES = 4096, 20
"""So much of the end of the job's error output goes into the message for the `error` nodes."""

OUT_OF_MEMORY = re.compile(r"slurmstepd.*(exceeded memory limit|oom.kill event)")
"""What Slurm writes into the error output of a job whose memory it only looks at now and then
(OverMemoryKill, slurm.conf(5)); the job's state is then that of any that was killed."""

CAUSES = {
    State.COMPLETED.value: "it ended before it could say how",
    State.FAILED.value: "it failed",
    State.CANCELLED.value: "it was cancelled",
    State.TIMEOUT.value: "it exceeded its time limit",
    State.NODE_FAIL.value: "its node failed",
    State.OUT_OF_MEMORY.value: "it ran out of memory",
    State.PREEMPTED.value: "it was preempted by another job",
    STUCK: "it can never start",
    LOST: "the batch system knows nothing of it any more",
}
"""What the batch system's last word on a job means."""


class Evidence(NamedTuple):
    """What is known of a job that died."""

    submission: KeptSubmission
    began: bool
    """Whether its wrapper ever began, as far as anybody can tell."""
    last_lines: list[str]
    """Of its error output."""


def conclude(attempt: Attempt, transport: Transport) -> Verdict | None:
    """Have the last word on an attempt whose job has ended, unless somebody had it; what it is.

    None: not yet, the wrapper lives (whatever the batch system knows of it), or somebody else is
    sending what it left. MessageError: there is nothing left to speak from. TransportError: come
    again.
    """
    if not Path(attempt.job_directory).is_dir():
        raise MessageError(f"Its directory {attempt.job_directory} is gone.")
    directory = JobDirectory(Path(attempt.job_directory))
    claim = directory.claimed()
    wrapper = ProcessIdentity.parse(claim.process) if claim else None
    verdict = directory.verdict()
    if directory.is_sent and verdict:
        return verdict
    if wrapper and is_alive(wrapper):
        return None
    verdict = verdict or _spoken(directory, attempt, claim)
    return verdict if _send(directory, verdict, wrapper, transport) else None


def _spoken(directory: JobDirectory, attempt: Attempt, claim: Claim | None) -> Verdict:
    if attempt.seen_state == State.COMPLETED.value and claim is None:
        mine = finished(attempt)
    else:
        mine = died(attempt, _evidence(directory, claim))
    if directory.speak(mine):
        return mine
    return directory.verdict() or mine


def _send(
    directory: JobDirectory, verdict: Verdict, wrapper: ProcessIdentity | None, transport: Transport
) -> bool:
    """Send what was left behind, and then the last messages; False if another is at it."""
    outbox = directory.outbox()
    try:
        outbox.recover(dead=wrapper)
        outbox.keep_lease()
        # Of two who have said that they are at it, and then look, one at least sees the other; and
        # who is alone now may have been second before.
        if outbox.owners() > 1:
            return False
        if directory.is_sent:
            return True
        sent = mover.deliver(outbox, transport)
        for message in verdict.final:
            if message.headers[ID_HEADER] not in sent:
                mover.send(transport, message)
        directory.mark_sent()  # before anybody else can be alone at it
    finally:
        outbox.close()
    return True


def _evidence(directory: JobDirectory, claim: Claim | None) -> Evidence:
    submission = read_submission(directory)
    last_lines = _tail(_error_output(directory, Envelope.from_body(submission.message)))
    return Evidence(submission, claim is not None, last_lines)


def cause_of(attempt: Attempt, began: bool) -> str:
    """What happened, and which witness says so, in a sentence."""
    job = f"Job {attempt.job_id} on cluster {attempt.cluster}"
    node = f" ({attempt.node})" if attempt.node else ""
    started = "" if began or attempt.seen_state == STUCK else " before its wrapper began"
    details = [
        f"exit status {attempt.exit_code}" if attempt.exit_code is not None else "",
        f"signal {attempt.signal}" if attempt.signal else "",
        attempt.seen_reason or "",
    ]
    shown = ", ".join(filter(None, details))
    said = CAUSES.get(attempt.seen_state or "", f"it is {attempt.seen_state}")
    return f"{job}{node}: {said}{started}{f' ({shown})' if shown else ''}."


def finished(attempt: Attempt) -> Verdict:
    """The verdict on a job that its batch system calls completed, and that had no wrapper."""
    return _verdict(attempt, Outcome.SUCCESS, "finished", [])


def died(attempt: Attempt, evidence: Evidence) -> Verdict:
    """The verdict on a job that ended and did not say how."""
    submission, began, last_lines = evidence
    if attempt.signal and (
        any(map(OUT_OF_MEMORY.search, last_lines)) or _had_too_much(attempt, submission.asked)
    ):
        attempt = replace(attempt, seen_state=State.OUT_OF_MEMORY.value)
    cause = cause_of(attempt, began)
    if again := retry.next_attempt(submission, attempt.seen_state or "", attempt.node):
        return _verdict(attempt, Outcome.RETRIED, f"{cause} {again.said}", [again.message])
    final = _final(Envelope.from_body(submission.message), attempt, cause, last_lines)
    return _verdict(attempt, Outcome.FAILURE, cause, final)


def _had_too_much(attempt: Attempt, asked: AskedResources) -> bool:
    """Whether its program was heard to have more memory than the job might have.

    Of a task of an array this is all there is: what Slurm writes goes nowhere.
    """
    limit_mib, peak_mib = asked.memory_per_node, attempt.peak_memory_mib
    return limit_mib is not None and peak_mib is not None and peak_mib > limit_mib


def _verdict(attempt: Attempt, outcome: Outcome, cause: str, final: list[Outgoing]) -> Verdict:
    code = attempt.exit_code or (128 + attempt.signal if attempt.signal else 1)
    return Verdict(
        token=attempt.token,
        outcome=outcome,
        witness=f"cluster {attempt.cluster}",
        cause=cause,
        job_id=str(attempt.job_id),
        exit_status=0 if outcome is Outcome.SUCCESS else code,
        peak_memory_mib=attempt.peak_memory_mib or 0.0,
        final=final,
    )


def _final(
    envelope: Envelope, attempt: Attempt, cause: str, last_lines: list[str]
) -> list[Outgoing]:
    """The last messages of a step that failed, as its wrapper would send them."""
    facts: dict[str, Any] = {
        "error": cause,
        "step": envelope.pointer,
        "job_id": attempt.job_id,
        "state": attempt.seen_state,
        "exit_code": attempt.exit_code,
        "signal": attempt.signal,
        "node": attempt.node,
        "peak_memory_mib": attempt.peak_memory_mib,
        "witness": f"cluster {attempt.cluster}",
        "log": last_lines,
    }
    messages = []
    for channel, payload in (("failure", cause), (None, facts), ("completed", COMPLETED)):
        try:
            sent = envelope.send(channel, payload) if channel else envelope.send_error(payload)
        except MessageError as error:  # that way of the recipe is wrong; the others may not be
            log.error("Nothing can be sent on %s: %s", channel or "the error nodes", error)
        else:
            messages += sent
    return [
        message.with_id(child_id(attempt.token, f"last word {position}"))
        for position, message in enumerate(messages)
    ]


def _error_output(directory: JobDirectory, envelope: Envelope) -> Path:
    parameters = envelope.step.get("parameters")
    given = parameters if isinstance(parameters, dict) else {}
    if given.get("standard_error"):
        return Path(str(given.get("workingdir")), str(given["standard_error"]))
    return directory.path / "job.err"


def _tail(file: Path) -> list[str]:
    """The last lines of a file."""
    try:
        with file.open("rb") as opened:
            opened.seek(max(0, opened.seek(0, os.SEEK_END) - TAIL_BYTES))
            text = opened.read().decode("utf-8", "replace")
    except OSError:
        return []
    return text.splitlines()[-TAIL_LINES:]
