"""The commands of a step, run one after the other: limits, success rules, and which one failed."""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from zwrap.errors import ProgramError
from zwrap.host.beneath import AllowedDirectories
from zwrap.host.clock import Clock, elapsed
from zwrap.program import judgement
from zwrap.program.causes.errorlist import KnownErrors
from zwrap.program.definition import Definition
from zwrap.program.listing import NOT_LISTED
from zwrap.program.run import Run
from zwrap.wrapper.command import Begin, CommandRun
from zwrap.wrapper.ended import Ended, Facts
from zwrap.wrapper.heartbeat import Heartbeat
from zwrap.wrapper.process import Program

log = logging.getLogger(__name__)

Running = Callable[[Program], AbstractContextManager[None]]
"""Function whose context is entered while a program runs."""

TOLD_FAILURES = 20
"""Largest number of failures of commands that are not required in the facts about a run."""


class Judged(NamedTuple):
    """The judgement on one command."""

    label: str
    """The command, if there are several."""
    rules: Definition
    """Definition with its rules of success."""
    run: Run


class ChainEnd(msgspec.Struct, frozen=True, kw_only=True):
    """The end of the commands of a step."""

    ended: Ended
    """End of the command that ran last, with the times of all."""
    run: Run
    """Run of that command."""
    failures: list[str] = []
    """Reasons why a required command failed; empty: none did."""
    label: str = ""
    """That command, if there are several."""
    interrupted: bool = False
    """True if one of them is a signal, or a time limit."""


class Chain:
    """The commands of a step.

    Args:
        definition: The definition.
        runs: The commands, in order; there is one at least.
        limit_s: Time limit of all commands together, in seconds; None: no limit.
        heartbeat: Heartbeat, which tells what runs.
        allowed: Directories below which the step may name paths.
        errors: Known errors of the commands; None: those of the definition.
        clock: Clock for the time limit, in seconds.
    """

    def __init__(
        self,
        definition: Definition,
        runs: Sequence[CommandRun],
        limit_s: int | None,
        heartbeat: Heartbeat,
        allowed: AllowedDirectories,
        *,
        errors: KnownErrors | None = None,
        clock: Clock = elapsed,
    ) -> None:
        self._errors = KnownErrors(definition, {}) if errors is None else errors
        self._definition, self._runs, self._limit_s = definition, runs, limit_s
        self._heartbeat, self._allowed = heartbeat, allowed
        self._clock = clock
        self._began = clock()
        self._passed: list[str] = []
        self.judged: list[Judged] = []
        """Commands that were judged, in order."""
        self._elapsed_s, self._leftovers = 0.0, 0

    def run(self, running: Running, stopped_by: Callable[[], str], began: Begin) -> ChainEnd:
        """Run the commands until a required one fails, or something stops the step.

        Args:
            running: Function whose context is entered while a program runs.
            stopped_by: Function that returns what has stopped the step; "": nothing has.
            began: Begin of the step, for the first command if it runs in that directory.

        Raises:
            ProgramError: The command line of a command is wrong, or the first one cannot be
                started.
        """
        for command in self._runs:
            command.fill()
        self._began = self._clock()
        end = self._one(self._runs[0], running, began)
        for command in self._runs[1:]:
            if end.failures:
                break
            by = stopped_by()
            if why := self._stopped(by):
                ended = replace(end.ended, stopped_by=by or None, timed_out=not by, saved=False)
                return replace(
                    end, ended=ended, failures=[why], label=command.planned.blamed, interrupted=True
                )
            try:
                end = self._one(command, running)
            except ProgramError as error:
                end = self._not_started(command, error)
        return end

    def judge(self, began: Begin, exit_status: int | None) -> ChainEnd:
        """Judge the files of an earlier run of the commands.

        Which commands ran is seen by their output; where there is none all count as having run.

        Args:
            began: Begin of the step.
            exit_status: Exit status of the command that ran last; None: not known.
        """
        ran = [command.has_output() for command in self._runs]
        last = max((number for number, has in enumerate(ran) if has), default=len(ran) - 1)
        end: ChainEnd | None = None
        for number, command in enumerate(self._runs):
            status = exit_status if number == last else None
            rules = command.judged_by(self._definition, exits=status is not None)
            run = command.finished(began, status or 0)
            self.judged.append(Judged(command.planned.label, rules, run))
            failures = judgement.failures(rules, run) if number <= last else ["it did not run"]
            ended = Ended(returncode=status or 0)
            end = ChainEnd(ended=ended, run=run, failures=failures, label=command.planned.blamed)
            if failures and command.planned.command.required:
                return end
        assert end is not None
        return replace(end, failures=[])

    def _one(self, command: CommandRun, running: Running, step: Begin | None = None) -> ChainEnd:
        """Run one command, and judge it; `step`: begin of the step if it is the first one."""
        limit_s, is_that_of_all = self._limit_of(command)
        with command.opened() as place:
            self._put_files(command, place)
            if step is None or step.directory != command.directory:
                began = command.prepare(place, self._definition, self._errors.patterns)
            else:
                began = step
            self._tell(command)
            program = command.start(place)
        self._heartbeat.pid = program.pid
        ended = self._waited_for(program, command, began, running, limit_s)
        command.keep_output()
        self._heartbeat.pid = None
        run = command.finished(began, ended.returncode)
        rules = command.judged_by(self._definition)
        self.judged.append(Judged(command.planned.label, rules, run))
        failures = judgement.failures(rules, run)
        done = command.saving.could_be_done(ended) and not failures
        why = "" if done else self._interruption(ended, limit_s, is_that_of_all)
        end = ChainEnd(
            ended=self._in_all(command, ended),
            run=run,
            failures=[why] if why else failures,
            label=command.planned.blamed,
            interrupted=bool(why),
        )
        stopped = ended.stopped_by and not ended.known
        stops = stopped or (ended.timed_out and is_that_of_all)
        return end if stops else self._passed_over(command, end)

    def _waited_for(
        self,
        program: Program,
        command: CommandRun,
        began: Begin,
        running: Running,
        limit_s: int | None,
    ) -> Ended:
        """Return the end of a program that runs, which a known error may bring about."""
        if not self._errors:
            with running(program):
                return program.wait(limit_s)
        from zwrap.wrapper.early import EarlyStop  # while the program runs already
        from zwrap.wrapper.given import given_to

        run = command.finished(began, 0)
        given = functools.partial(given_to, self._definition, command, run)
        early = EarlyStop(self._errors, run, given)
        with running(program), early.watching(program):
            ended = program.wait(limit_s)
        return replace(ended, known=early.found)

    def _put_files(self, command: CommandRun, place: Path) -> None:
        """Write the files that a further command gets."""
        name = command.planned.command.name
        if any(written.before == name for written in self._definition.write):
            from zwrap.wrapper.placing import Directory, put_files  # which few programs need

            directory = Directory(command.directory, place, self._allowed)
            put_files(self._definition, command.planned.values.known, directory, name)

    def _tell(self, command: CommandRun) -> None:
        """Let heartbeats tell what runs."""
        planned = command.planned
        self._heartbeat.command = planned.label
        self._heartbeat.follow(
            planned.command.progress,
            command.stdout,
            command.stderr,
            command.directory,
            self._allowed,
        )

    def _limit_of(self, command: CommandRun) -> tuple[int | None, bool]:
        """Return the time limit of a command that starts now, in seconds, and if all have it."""
        left_s = self._left_s()
        if command.limit_s is not None and (left_s is None or command.limit_s < left_s):
            return command.limit_s, False
        return left_s, True

    def _left_s(self) -> int | None:
        """Return what is left of the time limit of all commands, in seconds; None: no limit."""
        if self._limit_s is None:
            return None
        return self._limit_s - int(self._clock() - self._began)

    def _stopped(self, by: str) -> str:
        """Return why a command does not start, as a clause; "": it starts."""
        if by:
            return f"the step was stopped before it by {by}"
        left_s = self._left_s()
        if left_s is not None and left_s <= 0:
            return f"the commands before it exceeded the time limit of {self._limit_s} s"
        return ""

    def _interruption(self, ended: Ended, limit_s: int | None, is_that_of_all: bool) -> str:
        """Return a clause if a command was ended from outside, or at its limit; "": it was not."""
        if ended.stopped_by:
            elapsed_s = self._elapsed_s + ended.elapsed_s
            return f"it was stopped after {elapsed_s:.0f} s by {ended.stopped_by}"
        if not ended.timed_out:
            return ""
        if is_that_of_all and len(self._runs) > 1:
            return f"the commands of the step exceeded their time limit of {self._limit_s} s"
        return f"it exceeded its time limit of {limit_s} s"

    def _passed_over(self, command: CommandRun, end: ChainEnd) -> ChainEnd:
        """Return the end of a command, without its failure if it is not required."""
        if command.planned.command.required or not end.failures:
            return end
        said = f"{command.name}, which is not required: {'; '.join(end.failures)}"
        log.warning("The step goes on behind a failure: %s", said)
        self._passed.append(said)
        ended = replace(
            end.ended,
            timed_out=False,
            stopped_by=None,
            known=None,
            facts=self._facts(end.ended.facts),
        )
        return replace(end, failures=[], interrupted=False, ended=ended)

    def _not_started(self, command: CommandRun, error: ProgramError) -> ChainEnd:
        """Return the end of a further command that cannot be started."""
        status = error.exit_status
        ended = Ended(returncode=status, facts=self._facts({"exit_status": status}))
        end = ChainEnd(
            ended=ended,
            run=command.finished(Begin(math.inf, command.directory, NOT_LISTED), status),
            failures=[str(error)],
            label=command.planned.blamed,
        )
        return self._passed_over(command, end)

    def _in_all(self, command: CommandRun, ended: Ended) -> Ended:
        """Return the end of a command with the times of all, and the facts."""
        self._elapsed_s += ended.elapsed_s
        self._leftovers += ended.leftovers
        limit_s = self._limit_s if len(self._runs) > 1 else _least(self._limit_s, command.limit_s)
        in_all = replace(ended, elapsed_s=self._elapsed_s, leftovers=self._leftovers)
        return replace(
            in_all,
            facts=self._facts(command.facts(in_all)),
            saved=command.saving.has_saved(ended),
            remaining_s=None if limit_s is None else limit_s - self._elapsed_s,
        )

    def _facts(self, facts: Facts) -> Facts:
        """Return facts with the failures that the step has passed over."""
        passed = self._passed[:TOLD_FAILURES]
        return {**facts, "failed_commands": passed} if passed else facts


def _least(*limits_s: int | None) -> int | None:
    """Return the least of some time limits, in seconds; None: there is none."""
    return min((each for each in limits_s if each is not None), default=None)
