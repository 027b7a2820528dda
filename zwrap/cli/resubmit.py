"""`zwrap resubmit`: submit the step of an ended job once more, as a new attempt."""

from __future__ import annotations

import argparse
from pathlib import Path

from msgspec.structs import replace

from zwrap.attempt.directory import SUBMISSION
from zwrap.attempt.record import Attempt
from zwrap.attempt.retry import edited
from zwrap.cli.common import key_value, say
from zwrap.cli.joblist import UNKNOWN, Answers, attempts_of, job_of, kept_of, one_of
from zwrap.configuration.site import Configuration
from zwrap.errors import MessageError, UnreachableError
from zwrap.message import ATTEMPT_HEADER, Outgoing, decode
from zwrap.recipe.envelope import Envelope
from zwrap.submission.clusters import Clusters
from zwrap.submission.request import prepare
from zwrap.transport.connect import connect
from zwrap.transport.deadletters import read, reinjected


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    add = parser.add_argument
    add("JOB", nargs="+", help="job id, or the beginning of a token")
    purpose = "a key of the step's 'cluster' block, such as memory_per_node=8000; empty: without"
    add("-s", "--set", action="append", default=[], metavar="KEY=VALUE", help=purpose)


def run(configuration: Configuration, options: argparse.Namespace) -> int:
    """Send the messages; all jobs are checked before the first message is sent."""
    attempts = attempts_of(configuration)
    clusters = Clusters(configuration)
    answers = Answers(clusters)
    changes = dict(key_value(setting, "-s") for setting in options.set)
    messages = []
    for name in options.JOB:
        attempt = one_of(attempts, name)
        _check_ended(attempt, answers)
        content, place = _submission(attempt, configuration)
        message = _message(attempt, attempts, changes, clusters, content, place)
        messages.append((attempt, message))
    with connect(configuration, options.transport) as transport:
        for attempt, message in messages:
            transport.commit([message])
            transport.flush()
            number = message.headers[ATTEMPT_HEADER]
            what = f"{attempt.job_name} ({attempt.job_id})"
            say(f"{what} is sent to {message.destination} as attempt {number}.")
    return 0


def _check_ended(attempt: Attempt, answers: Answers) -> None:
    """Raise an error unless the job is known to have ended: two jobs must not share a directory.

    Raises:
        MessageError: The job lives.
        UnreachableError: The cluster cannot be asked.
    """
    job = job_of(attempt, answers)
    if job.live is not None:
        raise MessageError(
            f"Job {attempt.job_id} on cluster {attempt.cluster} is {job.state}; end it first "
            f"(zwrap cancel {attempt.job_id})."
        )
    if job.state == UNKNOWN:
        raise UnreachableError(
            f"Cluster {attempt.cluster} cannot be asked whether job {attempt.job_id} has ended."
        )


def _submission(attempt: Attempt, configuration: Configuration) -> tuple[dict[str, object], Path]:
    """Return the message that was submitted, and its file."""
    file = Path(attempt.job_directory, SUBMISSION)
    kept = kept_of(attempt, configuration)
    if kept is None:
        return read(file), file
    content = decode(kept.submission.encode(), str(file))
    if not isinstance(content, dict):
        raise MessageError(
            f"The ledger's record of the submission of {attempt.token} is not a JSON object."
        )
    return content, file


def _message(
    attempt: Attempt,
    attempts: list[Attempt],
    changes: dict[str, str],
    clusters: Clusters,
    content: dict[str, object],
    file: Path,
) -> Outgoing:
    """Return the step's message with the changes, numbered as the next attempt."""
    family, _, _ = attempt.token.rpartition("-")
    numbers = [each.token.rpartition("-") for each in attempts]
    latest = max(int(number) for name, _, number in numbers if name == family)
    try:
        body = edited(content["message"], changes)
    except MessageError as error:
        raise MessageError(f"{file}: {error}") from None
    envelope = Envelope.from_body(body)
    prepare(
        envelope, attempt.token, clusters.default, lambda name: clusters.get(name).settings.defaults
    )
    message = reinjected({**content, "message": body}, file, None)
    return replace(message, headers={**message.headers, ATTEMPT_HEADER: latest + 1})
