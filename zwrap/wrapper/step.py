"""One step run by a program definition: prepare, run, judge, and make messages of its results."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from zwrap.errors import ProgramError
from zwrap.host.beneath import ANYWHERE, AllowedDirectories, OutsideError
from zwrap.message.content import Outgoing
from zwrap.program import invocation, judgement, listing
from zwrap.program.conditions import value_failures
from zwrap.program.definition import Definition
from zwrap.program.options import parameter_files
from zwrap.program.run import Run
from zwrap.recipe.envelope import Envelope
from zwrap.units import seconds
from zwrap.wrapper import results
from zwrap.wrapper.command import CommandRun
from zwrap.wrapper.ended import Ended
from zwrap.wrapper.heartbeat import Heartbeat
from zwrap.wrapper.permission import write_files
from zwrap.wrapper.process import Program
from zwrap.wrapper.stepmessages import parsed_messages, result_messages

if TYPE_CHECKING:
    from zwrap.wrapper.scratch import ScratchDirectory

LISTING = "listing.json"
"""File in the directory of an attempt with the files that were there before its last run."""


class ProgramStep:
    """The run of one program definition for one recipe step."""

    def __init__(
        self,
        definition: Definition,
        envelope: Envelope,
        heartbeat: Heartbeat,
        allowed: AllowedDirectories = ANYWHERE,
        attempt: Path | None = None,
    ) -> None:
        """Fill in the definition from the step; ProgramError or RequestError if that fails.

        Args:
            definition: Definition of the program.
            envelope: The step.
            heartbeat: Heartbeat of the run.
            allowed: Directories below which the step may name paths.
            attempt: Directory of the attempt; None: what is to be known later is not kept.
        """
        self._envelope = envelope
        self._allowed = allowed
        self._attempt = attempt
        self._heartbeat = heartbeat
        parameters = envelope.job_parameters
        self._known = invocation.values(
            definition, parameters, envelope.payload, envelope.environment
        )
        self._parameters = parameters
        self._working = Path(str(parameters.get("working_directory") or Path.cwd()))
        if allowed.is_restricted:
            self._working = self._working.absolute()
        self._known["working_directory"] = str(self._working)
        self._scratch: ScratchDirectory | None = None
        if definition.scratch:
            from zwrap.wrapper.scratch import ScratchDirectory

            self._scratch = ScratchDirectory(definition.scratch)
            self._known["scratch"] = str(self._scratch.path)
        self._definition = invocation.with_file_names(definition, self._known)
        self._directory = self._working / self._definition.directory
        self._where = f"Node {envelope.pointer}, job_parameters, key 'working_directory'"
        self._command = CommandRun(
            self._definition, self._known, self._directory, self._where, allowed
        )
        limit = parameters.get("timeout") or definition.limits.time
        self._limit_s = None if limit is None else seconds(limit, "job_parameters, key 'timeout'")
        self.judged: Run | None = None
        """Run that was judged; None: there was none yet."""

    @property
    def definition(self) -> Definition:
        """Definition with its file names filled in."""
        return self._definition

    @property
    def known(self) -> Mapping[str, object]:
        """Values of placeholders, by name."""
        return self._known

    def run(self, running: Callable[[Program], AbstractContextManager[None]]) -> Ended:
        """Run the program and judge its run; `running` is entered while it runs.

        Raises ProgramError if the program cannot be started.
        """
        if self._scratch is None:
            return self._run(running)
        with self._scratch.made():
            result = self._run(running)
            self._scratch.failed = bool(result.failures)
            return result

    def _run(self, running: Callable[[Program], AbstractContextManager[None]]) -> Ended:
        """Run and judge the program, its scratch directory being there."""
        with self._opened() as place:
            began = self._prepare(place)
            progress, streams = (
                self._definition.progress,
                (self._command.stdout, self._command.stderr),
            )
            self._heartbeat.follow(progress, *streams, self._directory, self._allowed)
            program = self._command.start(place)
        self._heartbeat.pid = program.pid
        with running(program):
            ended = program.wait(self._limit_s)
        self._heartbeat.pid = None
        run, saving = self._command.finished(began, ended.returncode), self._command.saving
        facts, saved = self._command.facts(ended), saving.has_saved(ended)
        done = saving.could_be_done(ended) and not judgement.failures(self._definition, run)
        remaining_s = self._limit_s - ended.elapsed_s if self._limit_s else None
        ended = msgspec.structs.replace(ended, facts=facts, saved=saved, remaining_s=remaining_s)
        return self._judge(ended, run, [] if done else self._interruptions(ended))

    @contextlib.contextmanager
    def _opened(self) -> Iterator[Path]:
        """Create the directory of the run; yield a path that stands for it while it is open."""
        with contextlib.ExitStack() as stack:
            directory = self._allowed.directory(self._directory, self._where, make=True)
            try:
                place = stack.enter_context(directory)
            except OSError as error:
                raise ProgramError(
                    f"The working directory {self._directory} cannot be made: {error.strerror}."
                ) from None
            yield place

    def _prepare(self, place: Path) -> float:
        """Create the files for the run; return its begin, by the filesystem's clock."""
        results.link(self._working, self._parameters, self._allowed)
        invocation.check_files(self._definition, self._known, self._directory)
        contents = parameter_files(self._definition, self._known)
        write_files(self._directory, place, contents, self._allowed)
        if self._definition.write or self._definition.link or self._definition.copy:
            from zwrap.wrapper.placing import Directory, put_files  # which few programs need

            put_files(
                self._definition, self._known, Directory(self._directory, place, self._allowed)
            )
        began = self._command.prepare(place, judgement.patterns(self._definition))
        if self._attempt:
            listing.keep(self._command.before, self._attempt / LISTING)
        return began

    def judge(self, began: float, exit_status: int | None, *, copy: bool) -> Ended:
        """Judge the files of an earlier run, without a run.

        Args:
            began: Time by the filesystem, in seconds since the epoch; where no listing was kept
                before the run, older files do not count.
            exit_status: Exit status of the program, or minus the number of the signal that killed
                it; None: not known, and not judged.
            copy: True if results are copied to the places that the step names.
        """
        definition = self._definition
        if self._attempt:
            self._command.before = listing.kept(self._attempt / LISTING, self._directory)
        if exit_status is None:
            success = msgspec.structs.replace(definition.success, exit_status=[])
            self._definition = msgspec.structs.replace(definition, success=success)
        ended = Ended(returncode=exit_status or 0)
        return self._judge(ended, self._command.finished(began, ended.returncode), [], copy=copy)

    def _judge(
        self, ended: Ended, run: Run, interruptions: list[str], *, copy: bool = True
    ) -> Ended:
        """Return the end with failures and messages; an interruption is the only failure."""
        self.judged = run
        definition = self._definition
        failures = interruptions or judgement.failures(definition, run)
        parsed: dict[str, object] = {}
        if not failures:
            parsed, failures = judgement.parsed_outputs(definition, run)
            failures += value_failures(definition.success.values, parsed)
        records = judgement.result_files(definition, run, failed=bool(failures), parsed=parsed)
        copies: list[Path] = []
        try:
            if copy:
                records = results.copied(
                    records, self._working, self._parameters, self._allowed, copies.append
                )
        except (ProgramError, OutsideError) as error:
            failures.append(str(error))
        sent: list[Outgoing] = []
        try:
            if not failures:
                sent = parsed_messages(self._envelope, definition, self._known, parsed, records)
        except ProgramError as error:
            failures.append(str(error))
        if copy:
            self._copied(copies, failed=bool(failures))
        return msgspec.structs.replace(
            ended,
            failures=[f"{definition.name}: {'; '.join(failures)}"] if failures else [],
            messages=result_messages(self._envelope, records, sent),
        )

    def _copied(self, copies: Sequence[Path], *, failed: bool) -> None:
        """Keep what a failure has copied, or remove what earlier failures have copied."""
        below = results.directories(self._parameters)
        if self._attempt is None or not below:
            return
        from zwrap.wrapper import superseded

        step = superseded.step_of(self._definition.name, self._directory, self._envelope)
        if failed:
            superseded.note(self._attempt, step, copies)
        else:
            superseded.remove(self._attempt, step, copies, below, self._allowed)

    def _interruptions(self, ended: Ended) -> list[str]:
        """Return a sentence if the program was ended from outside."""
        if ended.stopped_by:
            return [f"it was stopped after {ended.elapsed_s:.0f} s by {ended.stopped_by}"]
        if ended.timed_out:
            return [f"it exceeded its time limit of {self._limit_s} s"]
        return []
