"""One step run by a program definition: prepare, run, judge, and make messages of its results."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from zwrap.errors import ProgramError
from zwrap.host.beneath import ANYWHERE, AllowedDirectories, OutsideError
from zwrap.message.content import Outgoing
from zwrap.program import invocation, judgement, listing
from zwrap.program.definition import Definition
from zwrap.program.keys.conditions import value_failures
from zwrap.program.plan import Planned, plan
from zwrap.program.run import Run
from zwrap.recipe.envelope import Envelope
from zwrap.units import seconds
from zwrap.wrapper import results
from zwrap.wrapper.chain import Chain, Running
from zwrap.wrapper.chainend import ChainEnd, Judged
from zwrap.wrapper.command import Begin, CommandRun, begin, opened
from zwrap.wrapper.ended import Ended
from zwrap.wrapper.heartbeat import Heartbeat
from zwrap.wrapper.permission import write_files
from zwrap.wrapper.stepmessages import parsed_messages, result_messages

if TYPE_CHECKING:
    from zwrap.wrapper.scratch import ScratchDirectory
    from zwrap.wrapper.superseded import Copying

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
        self._unnamed = definition.outputs.keys() - self._definition.outputs.keys()
        self._errors = invocation.errors_of(definition, self._known)
        self._directory = self._working / self._definition.directory
        self._where = f"Node {envelope.pointer}, job_parameters, key 'working_directory'"
        limit = parameters.get("timeout") or None
        limit_s = None if limit is None else seconds(limit, "job_parameters, key 'timeout'")
        self._commands = [
            self._command(definition, each, limit_s) for each in plan(definition, self._known)
        ]
        self._chain = Chain(
            definition, self._commands, limit_s, heartbeat, allowed, errors=self._errors
        )
        self.judged: Run | None = None
        """Run that was judged; None: there was none yet."""
        self.parsed: dict[str, object] = {}
        """Outputs that were parsed for it, by name."""

    @property
    def definition(self) -> Definition:
        """Definition with its file names filled in."""
        return self._definition

    @property
    def known(self) -> Mapping[str, object]:
        """Values of placeholders, by name."""
        return self._known

    @property
    def judged_commands(self) -> Sequence[Judged]:
        """Commands that were judged, in order, if they are kept."""
        return self._chain.judged or []

    def keep_judged(self) -> None:
        """Keep the commands that are judged from now on; each holds a listing of files."""
        self._chain.judged = []

    @property
    def commands(self) -> Sequence[CommandRun]:
        """Commands of the step, in order."""
        return self._commands

    def _command(self, definition: Definition, planned: Planned, limit_s: int | None) -> CommandRun:
        """Return a command of the step; `limit_s`: time limit of all commands, in seconds."""
        own = None if planned.is_first and limit_s else planned.command.limits.time
        return CommandRun(
            planned,
            definition.checkpoint if planned.is_first else None,
            None if own is None else seconds(own, f"{definition.source}, key 'limits.time'"),
            self._working,
            self._where,
            self._allowed,
        )

    def run(self, running: Running, stopped_by: Callable[[], str] = str) -> Ended:
        """Run the commands and judge the run.

        Args:
            running: Function whose context is entered while a program runs.
            stopped_by: Function that returns what has stopped the step; "": nothing has.

        Raises:
            ProgramError: The program cannot be started.
        """
        if self._scratch is None:
            return self._run(running, stopped_by)
        with self._scratch.made():
            result = self._run(running, stopped_by)
            self._scratch.failed = bool(result.failures)
            return result

    def _run(self, running: Running, stopped_by: Callable[[], str]) -> Ended:
        """Run and judge the commands, the scratch directory being there."""
        with opened(self._directory, self._where, self._allowed) as place:
            began = self._prepare(place)
        end = self._chain.run(running, stopped_by, began)
        if end.ended.saved and self._attempt:
            from zwrap.wrapper import (
                continuing,
            )  # which few programs need, and loaded before it ran

            continuing.keep_first(self._attempt, began.first or began.before)
        return self._judge(end, self._whole(began, self._chain.own_status))

    def _prepare(self, place: Path) -> Begin:
        """Create the files for the run; return its begin."""
        results.link(self._working, self._parameters, self._allowed)
        invocation.check_files(self._definition, self._known, self._directory)
        if self._definition.options:
            from zwrap.program.keys.options import parameter_files  # which few programs need

            contents = parameter_files(self._definition, self._known)
            write_files(self._directory, place, contents, self._allowed)
        if self._definition.write or self._definition.link or self._definition.copy:
            from zwrap.wrapper.placing import Directory, put_files  # which few programs need

            put_files(
                self._definition, self._known, Directory(self._directory, place, self._allowed)
            )
        own, *further = self._commands
        for command in further:
            command.clear()
        if own.directory == self._directory:
            own.remove_output(place)
        began = begin(self._directory, place, self._patterns())
        if self._attempt:
            listing.keep(began.before, self._attempt / LISTING)
            if self._definition.checkpoint:
                from zwrap.wrapper import continuing

                first = continuing.first_listing(self._attempt, self._directory)
                began = replace(began, first=first)
        return began

    def _patterns(self) -> list[str]:
        """Return the patterns of the files by which the step and its commands are judged."""
        here = (each for each in self._commands if each.directory == self._directory)
        own = (pattern for each in here for pattern in each.patterns(self._definition))
        searched = self._errors.patterns if self._errors else []
        return [*judgement.patterns(self._definition), *searched, *own]

    def _whole(self, began: Begin, exit_status: int) -> Run:
        """Return the run of all commands, for outputs and result files.

        Output and exit status are those of the definition's own command; in a loop, of its last
        entry.
        """
        first = [each for each in self._commands if each.planned.is_first] or self._commands
        run = first[-1].finished(began, exit_status)
        return replace(run, directory=self._directory, before=began.before, first=began.first)

    def judge(self, began: float, exit_status: int | None, *, copy: bool) -> Ended:
        """Judge the files of an earlier run, without a run.

        Args:
            began: Time by the filesystem, in seconds since the epoch; where no listing was kept
                before the run, older files do not count.
            exit_status: Exit status of the program, or minus the number of the signal that killed
                it, of several the required one that ran last; None: not known, and not judged.
            copy: True if results are copied to the places that the step names.
        """
        before, first = listing.NOT_LISTED, None
        for command in self._commands:
            command.take_earlier_output()
        if self._attempt:
            from zwrap.wrapper import continuing

            before = listing.kept(self._attempt / LISTING, self._directory)
            first = continuing.kept_first(self._attempt, self._directory)
        whole = Begin(began, self._directory, before, first)
        end = self._chain.judge(whole, exit_status)
        return self._judge(end, self._whole(whole, self._chain.own_status), copy=copy)

    def _judge(self, end: ChainEnd, run: Run, *, copy: bool = True) -> Ended:
        """Return the end with failures and messages, for the run of all commands."""
        self.judged = run
        definition, failures, label = self._definition, list(end.failures), end.label
        parsed: dict[str, object] = {}
        if not failures:
            parsed, failures = judgement.parsed_outputs(definition, run)
            label, self.parsed = "", parsed
            failures += value_failures(definition.success.values, parsed)
        records = judgement.result_files(definition, run, failed=bool(failures), parsed=parsed)
        copying = self._copying(failed=bool(failures)) if copy else None
        try:
            if copy:
                noted = copying.made if copying else None
                records = results.copied(
                    records, self._working, self._parameters, self._allowed, noted
                )
        except (ProgramError, OutsideError) as error:
            failures.append(str(error))
        sent: list[Outgoing] = []
        try:
            if not failures:
                # What has the name of an output without a file does not stand for that.
                known = {key: self._known[key] for key in self._known.keys() - self._unnamed}
                sent = parsed_messages(self._envelope, definition, known, parsed, records)
        except ProgramError as error:
            failures.append(str(error))
        if copying:
            copying.conclude(failed=bool(failures))
        cause = end.ended.known
        if failures and self._errors and not end.interrupted:
            cause = cause or self._errors.recognized(end.run if end.failures else run)
        messages = result_messages(self._envelope, records, sent)
        told = replace(end.ended, messages=messages)
        name = f"{definition.name}: {label}" if label else definition.name
        if not failures:
            return told
        from zwrap.wrapper.explanation import explained  # few runs fail

        return explained(told, name, failures, cause, definition, self._parameters)

    def _copying(self, *, failed: bool) -> Copying | None:
        """Return what knows the copies of results; None: there are none, or no attempt.

        `failed`: True if the step is a failure already.
        """
        below = results.directories(self._parameters)
        if self._attempt is None or not below:
            return None
        from zwrap.wrapper.superseded import Copying, step_of

        step = step_of(self._definition.name, self._directory, self._envelope)
        return Copying(self._attempt, step, below, self._allowed, failed=failed)
