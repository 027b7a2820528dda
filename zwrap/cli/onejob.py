"""One job: about ten lines for people, or all that is known of it as JSON."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from zwrap.attempt.ledger.ledger import Ledger
from zwrap.attempt.record import Attempt
from zwrap.cli.common import say
from zwrap.cli.heard import heartbeat_of
from zwrap.cli.jobcolumns import age, facts, local_time, outbox
from zwrap.cli.selecting import name_of
from zwrap.configuration.site import Configuration
from zwrap.job import Outcome, State
from zwrap.message.jsontext import decode
from zwrap.monitor.kept import program_of, submission_of, working_directory
from zwrap.monitor.logs import logs_of
from zwrap.monitor.states import Answers, KnownJob
from zwrap.transport.spool.views import held

TITLE_WIDTH = 10
"""Width of the titles of the lines, in characters."""


def show_one(job: KnownJob, ledger: Ledger, configuration: Configuration) -> None:
    """Print what is known of one job, in about ten lines."""
    for title, text in _lines(job, ledger, configuration):
        if text:
            say(f"{title:{TITLE_WIDTH}}{' '.join(text.split())}")


def _lines(
    job: KnownJob, ledger: Ledger, configuration: Configuration
) -> Iterator[tuple[str, str | None]]:
    """Yield titles and texts; one without a text is not shown."""
    attempt, now = job.attempt, ledger.now()
    kept = submission_of(attempt, ledger)
    program = program_of(job, kept)
    step = f"step {attempt.step} of recipe {attempt.recipe_id}" if attempt.step else "no recipe"
    yield "job", f"{name_of(attempt)} on {attempt.cluster}: {attempt.job_name}, {step}"
    known = f", {age(now - job.known)} ago" if job.known is not None else ""
    told = f" (told by {job.witness}{known})" if job.witness != "none" else ""
    yield "state", f"{job.state}{told}"
    yield "cause", f"{job.label}: {job.cause}" if job.label else job.cause
    yield "remedy", job.verdict.remedy if job.verdict else None
    if job.live and job.live.state is State.RUNNING:
        yield "progress", _progress(heartbeat_of(attempt.token, configuration))
    yield "times", _times(job, now)
    used = attempt.peak_memory_mib or (job.verdict.peak_memory_mib if job.verdict else None)
    memory = f"{used:.0f} MiB at most" if used else None
    yield (
        "used",
        ", ".join(each for each in (memory, attempt.node and f"on {attempt.node}") if each),
    )
    yield "where", str(working_directory(attempt))
    yield "log", ", ".join(map(str, logs_of(attempt, program))) or None
    yield "attempts", _attempts(ledger.queries.family(attempt))
    if (unsent := held(outbox(attempt))) > 0:
        yield "unsent", f"{unsent} messages wait in its outbox"
    yield "token", attempt.token
    if job.state == Outcome.FAILURE.value:
        yield "again", f"zwrap resubmit {name_of(attempt)}"


def _progress(heartbeat: dict[str, object] | None) -> str | None:
    """Return what the last heartbeat of a wrapper tells."""
    if heartbeat is None:
        return "no heartbeat was heard"
    said = [str(heartbeat["progress"])] if heartbeat.get("progress") else []
    for key, unit in (("elapsed_s", "s run"), ("cpu_s", "s of CPU"), ("memory_mib", "MiB")):
        if isinstance(value := heartbeat.get(key), (int, float)):
            said.append(f"{value:.0f} {unit}")
    return ", ".join(said)


def _times(job: KnownJob, now: float) -> str:
    """Return when a job was submitted, and how long its program ran."""
    attempt = job.attempt
    said = f"submitted {local_time(attempt.created)}, {age(now - attempt.created)} ago"
    ran_s = attempt.elapsed_s or (job.verdict.elapsed_s if job.verdict else None)
    if ran_s:
        said += f"; ran for {age(ran_s)}"
    if job.live and job.live.starts:
        said += f"; expected to start {local_time(job.live.starts)}"
    return said


def _attempts(family: list[Attempt]) -> str | None:
    """Return the ends of all attempts at one message; None: there is one."""
    if len(family) < 2:
        return None
    return ", ".join(f"{name_of(each)} {each.outcome or each.state}" for each in family)


def full(
    job: KnownJob, ledger: Ledger, answers: Answers, configuration: Configuration
) -> dict[str, object]:
    """Return all facts, with the batch system's answer and the last messages of the step."""
    attempt, told = job.attempt, job.live
    if told is None and attempt.job_id:
        told = answers.ended(attempt)
    found = {
        **facts(job), "history": _history(attempt),
        "batch_system": msgspec.to_builtins(told) if told else None,
        "verdict": job.verdict, "unsent": held(outbox(attempt)),
        "attempts": _family(ledger.queries.family(attempt)),
    }  # fmt: skip
    if job.live and job.live.state is State.RUNNING:
        found["heartbeat"] = heartbeat_of(attempt.token, configuration)
    if kept := ledger.remote.get(attempt.token):
        found |= {"verdict": msgspec.to_builtins(kept.verdict), "late": _decoded(kept.late)}
    return found


def _decoded(text: str | None) -> object:
    """Return the value of a JSON text; None for no text."""
    value: object = None if text is None else decode(text.encode())
    return value


def _history(attempt: Attempt) -> list[dict[str, str | None]]:
    """Return the known events of an attempt, oldest first."""
    seen = f"{attempt.seen_state}: {attempt.seen_reason or 'no reason given'}"
    array = f", task {attempt.task} of array {attempt.array_token}" if attempt.task else ""
    events = [
        (attempt.created, "taken up"),
        (attempt.tried, f"handed over to cluster {attempt.cluster}{array}"),
        (attempt.pending, "began to wait in the batch system"),
        (attempt.missing, "not known to the batch system any more"),
        (attempt.seen, seen),
        (attempt.ended, "known to have ended"),
    ]
    return [{"time": local_time(at), "what": what} for at, what in events if at]


def _family(attempts: list[Attempt]) -> list[dict[str, object]]:
    """Return what programs are told of all attempts at the same message."""
    keys = ("token", "job_id", "state", "outcome", "cause", "cause_label")
    return [{key: getattr(each, key) for key in keys} for each in attempts]
