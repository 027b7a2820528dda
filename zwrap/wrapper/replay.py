"""Replay of a finished directory: the messages that its run would have sent, without the run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from zwrap.attempt.directory import ENVELOPE, JobDirectory
from zwrap.attempt.verdict import CLAIM, Verdict, final_messages
from zwrap.errors import MessageError, ProgramError, UnknownNameError
from zwrap.host.beneath import ANYWHERE, AllowedDirectories
from zwrap.job import Outcome
from zwrap.message.content import Outgoing
from zwrap.message.limits import DEFAULTS, Limits
from zwrap.program.choice import Choice
from zwrap.program.definition import Definition
from zwrap.program.reading import find_program, program_names
from zwrap.recipe.envelope import Envelope
from zwrap.wrapper.ended import Ended
from zwrap.wrapper.heartbeat import Heartbeat
from zwrap.wrapper.step import ProgramStep
from zwrap.wrapper.stepfile import read_envelope


class Replay(msgspec.Struct, frozen=True):
    """The judgement on a finished directory, and the messages that follow from it."""

    program: str
    envelope: Path
    failures: list[str]
    messages: list[Outgoing]


def replay(
    directory: Path,
    *,
    wrapper: str | None = None,
    envelope_file: Path | None = None,
    exit_status: int | None = None,
    programs: Path | None = None,
    copy: bool = True,
    limits: Limits = DEFAULTS,
    allowed: AllowedDirectories = ANYWHERE,
) -> Replay:
    """Judge a finished directory; return the messages to send, without `starting`.

    Args:
        directory: Working directory of a step, directory in which its program ran, or directory of
            one attempt.
        wrapper: Name of the program; None: the one that the attempt's verdict names.
        envelope_file: Recipe wrapper file; None: that of the attempt.
        exit_status: Exit status of the program; None: the recorded one, if any.
        programs: Directory of the site's own program definitions.
        copy: True if results are copied to the places that the step names.
        limits: Limits of sizes.
        allowed: Directories below which the step may name paths.

    Raises:
        ProgramError: The directory, or the program, cannot be determined or used, or a class ran.
        UnknownNameError: There is no program of that name.
        MessageError: The recipe wrapper file does not hold a step.
    """
    directory = _existing(directory)
    attempt = None if envelope_file else _attempt(directory)
    file = envelope_file or (attempt / ENVELOPE if attempt else None)
    if file is None:
        raise ProgramError(
            f"{directory} holds no attempt of a step (.zwrap/*/{ENVELOPE}); name its recipe "
            "wrapper file with --recipewrapper and its program with --wrap."
        )
    verdict = JobDirectory(attempt).verdict() if attempt else None
    if verdict and verdict.wrapper_class and not wrapper:
        raise ProgramError(
            f"A run of a Python wrapper cannot be replayed: in {directory} class "
            f"{verdict.wrapper_class} ran as wrapper {verdict.program!r}. To judge its files by a "
            "definition, name one: --wrap NAME."
        )
    name = wrapper or (verdict.program if verdict else "")
    if not name:
        raise ProgramError(
            f"Which program ran in {directory} is not recorded; name it: --wrap NAME."
        )
    envelope = read_envelope(file, limits)
    working = _working(envelope, attempt) if attempt else directory
    if attempt and not _is_of(directory, attempt, working):
        raise ProgramError(
            f"{directory} is no directory of the attempt {attempt}, whose program ran in "
            f"{working}; name that one, or a recipe wrapper file with --recipewrapper."
        )
    envelope = _with_parameters(envelope, {"working_directory": str(working)})
    definition = _definition(name, envelope, programs)
    if attempt is None:
        envelope = _run_directory(envelope, definition.directory)
    step = ProgramStep(definition, envelope, Heartbeat(name, name, {}), allowed, attempt)
    result = step.judge(_began(attempt), _status(exit_status, verdict), copy=copy)
    last = final(envelope, result)
    return Replay(name, file, result.failures, [*result.messages, *last])


def _definition(name: str, envelope: Envelope, programs: Path | None) -> Definition:
    """Return the definition of a program.

    Raises:
        UnknownNameError: There is none of that name.
        ProgramError: A class runs under that name, or the definition is not usable.
    """
    definition = find_program(name, envelope.job_parameters, programs)
    if definition is None:
        raise UnknownNameError(
            "program", name, program_names(programs), "Python wrappers have none"
        )
    choice = Choice.of(name, programs)
    if choice.entry is not None:
        raise ProgramError(f"A run of a Python wrapper cannot be replayed: {choice}.")
    return definition


def _existing(directory: Path) -> Path:
    """Return the full path of a directory; ProgramError if there is none."""
    if directory.is_dir():
        return directory.absolute()
    raise ProgramError(
        f"{directory.absolute()} is not a directory; the one of a finished step is expected."
    )


def final(envelope: Envelope, result: Ended) -> list[Outgoing]:
    """Return the last messages of a step that ended so; ProgramError if they cannot be sent."""
    outcome = Outcome.FAILURE if result.failures else Outcome.SUCCESS
    cause = result.with_remedy("; ".join(result.failures))
    try:
        return final_messages(envelope, outcome, cause, result.facts, strict=True)
    except MessageError as error:
        raise ProgramError(f"The final messages cannot be sent: {error}") from None


def _attempt(directory: Path) -> Path | None:
    """Return the directory of the only attempt there, or in the next directory above that has any.

    None: there is none. Raises ProgramError if there are several.
    """
    if (directory / ENVELOPE).is_file():
        return directory
    for place in (directory, *directory.parents):
        found = sorted(file.parent for file in place.glob(f".zwrap/*/{ENVELOPE}"))
        if len(found) > 1:
            listing = ", ".join(map(str, found))
            raise ProgramError(f"{place} holds several attempts; name one of them: {listing}.")
        if found:
            return found[0]
    return None


def _working(envelope: Envelope, attempt: Path) -> Path:
    """Return the working directory of the program, which may have been moved with its attempt.

    Raises ProgramError if it is not there.
    """
    here, parameters = attempt.parents[1], envelope.step.get("parameters")
    outer = parameters.get("workingdir") if isinstance(parameters, Mapping) else None
    recorded = Path(str(envelope.job_parameters.get("working_directory") or here))
    base = Path(str(outer)) if outer else recorded if recorded.is_absolute() else here
    working = base / recorded
    carried = here / working.relative_to(base) if working.is_relative_to(base) else working
    earlier = base / attempt.relative_to(here)
    stays = _is_same(base, here) if outer else _is_same(earlier, attempt) or not earlier.exists()
    for place in (working, carried) if stays else (carried, working):
        if place.is_dir():
            return place
    raise ProgramError(
        f"The working directory of the program, {working}, is not there, nor is {carried}; give "
        "the directory in which the files are now, with --recipewrapper and --wrap."
    )


def _is_of(directory: Path, attempt: Path, working: Path) -> bool:
    """Return True if a directory is that of an attempt, its job's, or one that its program had."""
    return directory in (attempt, attempt.parents[1]) or (
        directory.resolve().is_relative_to(working.resolve())
    )


def _is_same(one: Path, other: Path) -> bool:
    """Return True if two paths are of one directory that is there."""
    try:
        return one.samefile(other)
    except OSError:
        return False


def _run_directory(envelope: Envelope, name: str) -> Envelope:
    """Return the envelope with the right working directory if the program's own one was given."""
    working = Path(str(envelope.job_parameters["working_directory"]))
    definite = "{" not in name
    inside = working.name == name if definite else working.name.startswith(name.split("{")[0])
    if not name or not inside or (working / name).is_dir():
        return envelope
    return _with_parameters(envelope, {"working_directory": str(working.parent)})


def _with_parameters(envelope: Envelope, parameters: Mapping[str, Any]) -> Envelope:
    """Return a copy of the envelope with further job parameters."""
    body = json.loads(envelope.to_json())
    step = body["recipe"][str(envelope.pointer)]
    step["job_parameters"] = {**envelope.job_parameters, **parameters}
    return Envelope.from_body(body, envelope.limits)


def _began(attempt: Path | None) -> float:
    """Return the time of the claim, in seconds since the epoch; 0: unknown, every file counts."""
    claim = attempt / CLAIM if attempt else None
    return claim.stat().st_mtime if claim and claim.exists() else 0.0


def _status(given: int | None, verdict: Verdict | None) -> int | None:
    """Return the exit status of the program; None: it is not known."""
    return given if given is not None else verdict.program_exit_status if verdict else None
