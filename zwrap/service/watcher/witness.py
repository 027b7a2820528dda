"""The batch system as the witness: its verdict on an attempt without a verdict of a wrapper.

These are pure functions; `zwrap.service.watcher.conclusion` decides when they are called.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from zwrap.attempt import retry
from zwrap.attempt.record import (
    LOST,
    NOT_STARTED,
    STUCK,
    AskedResources,
    Attempt,
    KeptSubmission,
)
from zwrap.attempt.verdict import Verdict, final_messages
from zwrap.errors import short
from zwrap.job import Cause, Outcome, State
from zwrap.message.content import Outgoing
from zwrap.message.identity import child_id
from zwrap.message.limits import ANY_SIZE, Limits
from zwrap.recipe.envelope import Envelope

CAUSES = {
    State.COMPLETED.value: "it ended before it could say how",
    State.FAILED.value: "it failed",
    State.CANCELLED.value: "it was cancelled",
    State.TIMEOUT.value: "it exceeded its time limit",
    State.NODE_FAIL.value: "its node failed",
    State.OUT_OF_MEMORY.value: "it ran out of memory",
    State.PREEMPTED.value: "it was preempted by another job",
    STUCK: "it can never start",
    NOT_STARTED: "it did not start in time",
    LOST: "the batch system knows nothing of it any more",
}
"""Last state of a job to a clause about its end, for people."""


PRINTED = 300
"""Longest part of a line of error output in a sentence, in characters."""


def finished(attempt: Attempt) -> Verdict:
    """Return the verdict on a job that its batch system calls completed, and that had no wrapper.

    The verdict has no final messages: the job's commands may have sent some themselves.
    """
    return _verdict(attempt, Outcome.SUCCESS, "finished", [])


def died(
    attempt: Attempt,
    submission: KeptSubmission,
    *,
    began: bool,
    flaw: str = "",
    last_lines: Sequence[str] = (),
    error_patterns: Mapping[str, Cause] = {},
    limits: Limits = ANY_SIZE,
) -> Verdict:
    """Return the verdict on a job that ended without a verdict of its wrapper.

    Args:
        attempt: The attempt, with the last state that the batch system reported.
        submission: Record of the submission.
        began: False if the wrapper certainly never began.
        flaw: Sentence about a file of the wrapper that cannot be read; empty: there is none.
        last_lines: End of the job's error output.
        error_patterns: Regular expression for a line of that output to the cause that it proves.
        limits: Limits of the recipe.
    """
    attempt = _proven(attempt, submission.asked, last_lines, error_patterns)
    set_up = "" if began else _set_up_fault(last_lines)
    cause = " ".join(filter(None, (cause_of(attempt, began), set_up, flaw)))
    why = _retried_for(attempt)
    known = replace(submission, cluster=attempt.cluster)
    if again := retry.next_attempt(known, why, attempt.node, limits.open_names):
        return _verdict(attempt, Outcome.RETRIED, f"{cause} {again.said}", [again.message])
    return _failure(attempt, submission, cause, last_lines, limits)


def failed(
    attempt: Attempt, submission: KeptSubmission, why: str, limits: Limits = ANY_SIZE
) -> Verdict:
    """Return the verdict on an attempt whose files or messages cannot be used.

    `why`: a sentence about them. `limits`: those of the recipe. No other attempt follows.

    Raises:
        MessageError: The submission holds no recipe message.
    """
    cause = f"Job {attempt.job_id} on cluster {attempt.cluster} cannot be concluded as usual. {why}"
    return _failure(attempt, submission, cause, (), limits)


def _failure(
    attempt: Attempt,
    submission: KeptSubmission,
    cause: str,
    last_lines: Sequence[str],
    limits: Limits,
) -> Verdict:
    """Return the verdict on an attempt that failed, with the final messages of its step."""
    facts = {
        "job_id": attempt.job_id,
        "state": attempt.seen_state,
        "exit_code": attempt.exit_code,
        "signal": attempt.signal,
        "node": attempt.node,
        "peak_memory_mib": attempt.peak_memory_mib,
        "witness": f"cluster {attempt.cluster}",
        "log": list(last_lines),
    }
    envelope = Envelope.from_body(submission.message, limits)
    messages = final_messages(envelope, Outcome.FAILURE, cause, facts)
    final = [
        message.with_id(child_id(attempt.token, f"last word {position}"))  # as earlier releases
        for position, message in enumerate(messages)
    ]
    return _verdict(attempt, Outcome.FAILURE, cause, final)


def cause_of(attempt: Attempt, began: bool) -> str:
    """Return a sentence that tells how a job ended; `began`: as for `died`."""
    job = f"Job {attempt.job_id} on cluster {attempt.cluster}"
    node = f" ({attempt.node})" if attempt.node else ""
    given_up = attempt.seen_state in (STUCK, NOT_STARTED)
    started = "" if began or given_up else " before its wrapper began"
    details = [
        f"exit status {attempt.exit_code}" if attempt.exit_code is not None else "",
        f"signal {attempt.signal}" if attempt.signal else "",
        attempt.seen_reason or "",
    ]
    shown = ", ".join(filter(None, details))
    said = CAUSES.get(attempt.seen_state or "", f"it is {attempt.seen_state}")
    return f"{job}{node}: {said}{started}{f' ({shown})' if shown else ''}."


def _set_up_fault(last_lines: Sequence[str]) -> str:
    """Return a sentence about the line of the job's set-up that failed; empty: none did.

    The job script (templates/setup.sh) says which; the line before is what that line printed.
    """
    for position, line in enumerate(last_lines):
        if match := re.fullmatch(r"zwrap: set-up failed with exit status \d+: (.*)", line):
            printed = next((each for each in reversed(last_lines[:position]) if each.strip()), "")
            told = f": {printed.strip()[:PRINTED]}" if printed else ""
            return f"Its set-up failed at {short(match[1])}{told}."
    return ""


def _proven(
    attempt: Attempt,
    asked: AskedResources,
    last_lines: Sequence[str],
    error_patterns: Mapping[str, Cause],
) -> Attempt:
    """Return the attempt; the state of a killed job is the cause that further evidence proves."""
    if not attempt.signal:
        return attempt
    for pattern, cause in error_patterns.items():
        if any(re.search(pattern, line) for line in last_lines):
            return replace(attempt, seen_state=cause.value)
    # The error output of a task of an array is discarded; heartbeats are the only evidence.
    limit_mib, peak_mib = asked.memory_per_node, attempt.peak_memory_mib
    if limit_mib and peak_mib is not None and peak_mib > limit_mib:  # 0: all of the node
        return replace(attempt, seen_state=State.OUT_OF_MEMORY.value)
    return attempt


def _retried_for(attempt: Attempt) -> Cause | None:
    """Return the cause whose name in retry policies is the attempt's state; None: no cause."""
    return next((cause for cause in Cause if cause.value == attempt.seen_state), None)


def _verdict(attempt: Attempt, outcome: Outcome, cause: str, final: list[Outgoing]) -> Verdict:
    """Return a verdict with the cluster as its witness."""
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
