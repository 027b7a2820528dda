"""The commands of a step, run one after the other: limits, success rules, and which one failed."""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from zwrap.errors import PERMANENT, PermanentError
from zwrap.host.beneath import AllowedDirectories
from zwrap.host.clock import Clock, elapsed
from zwrap.program import judgement
from zwrap.program.definition import Definition
from zwrap.program.listing import LISTING_S, NOT_LISTED
from zwrap.program.run import Run
from zwrap.wrapper.chainend import ChainEnd, Judged
from zwrap.wrapper.command import Begin, CommandRun
from zwrap.wrapper.ended import Ended, Facts
from zwrap.wrapper.heartbeat import Heartbeat
from zwrap.wrapper.process import Program

if TYPE_CHECKING:
    from zwrap.program.causes.errorlist import KnownErrors

log = logging.getLogger(__name__)

Running = Callable[[Program], AbstractContextManager[None]]
"""Function whose context is entered while a program runs."""

TOLD_FAILURES = 20
"""Largest number of failures of commands that are not required in the facts about a run."""


class Chain:
    """The commands of a step.

    Args:
        definition: The definition.
        runs: The commands, in order; there is one at least.
        limit_s: Time limit of all commands together, in seconds; None: no limit.
        heartbeat: Heartbeat, which tells what runs.
        allowed: Directories below which the step may name paths.
        errors: Known errors of the commands; None: there are none.
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
        errors: KnownErrors | None,
        clock: Clock = elapsed,
    ) -> None:
        self._errors = errors
        self._definition, self._runs, self._limit_s = definition, runs, limit_s
        self._heartbeat, self._allowed = heartbeat, allowed
        self._clock = clock
        self._began = clock()
        self._passed: list[str] = []
        self.judged: list[Judged] | None = None
        """Commands that were judged, in order, for who sets a list; each holds a listing."""
        self.own_status = 0
        """Exit status of the definition's own command; in a loop, of its last entry."""
        self._elapsed_s, self._leftovers = 0.0, 0
        self._listing_s = LISTING_S
        """Rest of the time for listings of all further commands together, in seconds."""

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
        own, *further = self._runs
        end = self._one(own, running, *self._started(own, began))
        for command in further:
            if end.failures:
                break
            one = self._unwanted(command, end, stopped_by()) or self._further(command, end, running)
            end = self._counted(command, one, end)
            if one.stops:
                break
        return end

    def _unwanted(self, command: CommandRun, before: ChainEnd, by: str) -> ChainEnd | None:
        """Return the end of a command that does not start; None: it starts.

        `before`: end of the commands before it; `by`: what has stopped the step.
        """
        why = self._stopped(by)
        if not why:
            return None
        ended = replace(before.ended, stopped_by=by or None, timed_out=not by, saved=False)
        return replace(
            before, ended=ended, failures=[why], label=command.planned.blamed, interrupted=True,
            stops=True,
        )  # fmt: skip

    def _further(self, command: CommandRun, before: ChainEnd, running: Running) -> ChainEnd:
        """Run a further command, and judge it; `before`: end of the commands before it."""
        try:
            started = self._started(command)
        except (PermanentError, OSError) as error:
            return self._not_started(command, before, error)
        return self._one(command, running, *started)

    def _counted(self, command: CommandRun, one: ChainEnd, before: ChainEnd) -> ChainEnd:
        """Return the end of the commands until this one.

        Of one that is not required only times and failures are told. It can make the step a failure
        only where what stopped it keeps a required one from its start.

        Args:
            command: The command.
            one: Its end.
            before: End of the commands before it.
        """
        if command.planned.command.required:
            return one
        if one.failures:
            after = self._runs[command.planned.number :]
            if one.stops and any(each.planned.command.required for each in after):
                return one
            said = f"{command.name}, which is not required: {'; '.join(one.failures)}"
            log.warning("The step goes on behind a failure: %s", said)
            self._passed.append(said)
        return replace(before, ended=self._with_times(before.ended))

    def judge(self, began: Begin, exit_status: int | None) -> ChainEnd:
        """Judge the files of an earlier run of the commands.

        Which commands ran is seen by their output; where there is none all count as having run.

        Args:
            began: Begin of the step.
            exit_status: Exit status of the required command that ran last; None: not known.
        """
        required = [each.planned.command.required for each in self._runs]
        ran = [command.has_output() for command in self._runs]
        last = max((number for number, has in enumerate(ran) if has), default=len(ran) - 1)
        counted = max((number for number in range(last + 1) if required[number]), default=last)
        end: ChainEnd | None = None
        memory: dict[tuple[object, ...], object] = {}
        for number, command in enumerate(self._runs):
            status = exit_status if number == counted else None
            rules = command.judged_by(self._definition, exits=status is not None)
            run = replace(command.finished(began, status or 0), memory=memory)
            if command.planned.is_first:
                self.own_status = status or 0
            self._note(command, rules, run)
            failures = judgement.failures(rules, run) if number <= last else ["it did not run"]
            ended = Ended(returncode=status or 0)
            if end and not required[number]:
                continue
            end = ChainEnd(ended=ended, run=run, failures=failures, label=command.planned.blamed)
            if failures and required[number]:
                return end
        assert end is not None
        return replace(end, failures=[])

    def _started(
        self, command: CommandRun, step: Begin | None = None
    ) -> tuple[Begin, Program, int | None, bool]:
        """Start one command; `step`: begin of the step if it is the first one.

        Returns:
            Its begin, the program, its time limit in seconds, and if that is the limit of all.
        """
        limit_s, is_that_of_all = self._limit_of(command)
        with command.opened() as place:
            self._put_files(command, place)
            if step is None or step.directory != command.directory:
                asked, searched = self._clock(), self._errors.patterns if self._errors else []
                left_s = max(0.0, self._listing_s)
                began = command.prepare(place, self._definition, searched, left_s)
                self._listing_s -= self._clock() - asked
            else:
                began = step
            self._tell(command)
            return began, command.start(place), limit_s, is_that_of_all

    def _one(
        self, command: CommandRun, running: Running, began: Begin, program: Program,
        limit_s: int | None, is_that_of_all: bool,
    ) -> ChainEnd:  # fmt: skip
        """Wait for the end of one command, and judge it; the arguments are those of `_started`."""
        self._heartbeat.pid = program.pid
        ended = self._waited_for(program, command, began, running, limit_s)
        command.keep_output()
        self._heartbeat.pid = None
        if command.planned.is_first:
            self.own_status = ended.returncode
        run = replace(command.finished(began, ended.returncode), memory={})
        rules = command.judged_by(self._definition)
        self._note(command, rules, run)
        failures = judgement.failures(rules, run)
        done = command.saving.could_be_done(ended) and not failures
        why = "" if done else self._interruption(ended, limit_s, is_that_of_all)
        stopped = ended.stopped_by and not ended.known
        return ChainEnd(
            ended=self._in_all(command, ended),
            run=run,
            failures=[why] if why else failures,
            label=command.planned.blamed,
            interrupted=bool(why),
            stops=bool(why and (stopped or (ended.timed_out and is_that_of_all))),
        )

    def _note(self, command: CommandRun, rules: Definition, run: Run) -> None:
        """Note a command that is judged, for who wants to know."""
        if self.judged is not None:
            required = command.planned.command.required
            self.judged.append(Judged(command.planned.label, rules, run, required))

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
            planned.command.progress, command.stdout, command.stderr, command.directory,
            self._allowed,
        )  # fmt: skip

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

    def _not_started(
        self, command: CommandRun, before: ChainEnd, error: PermanentError | OSError
    ) -> ChainEnd:
        """Return the end of a further command that cannot be started."""
        status = error.exit_status if isinstance(error, PermanentError) else PERMANENT
        ended = self._with_times(before.ended)
        facts: Facts = {**ended.facts, "exit_status": status, "stderr_tail": []}
        return ChainEnd(
            ended=replace(ended, returncode=status, facts=facts),
            run=command.finished(Begin(math.inf, command.directory, NOT_LISTED), status),
            failures=[str(error)],
            label=command.planned.blamed,
        )

    def _in_all(self, command: CommandRun, ended: Ended) -> Ended:
        """Return the end of a command with the times of all, and the facts."""
        self._elapsed_s += ended.elapsed_s
        self._leftovers += ended.leftovers
        limit_s = command.limit_s if len(self._runs) == 1 else None
        saved = command.saving.has_saved(ended)
        left_s = None if limit_s is None else limit_s - self._elapsed_s
        facts = command.facts(ended)
        return self._with_times(replace(ended, saved=saved, remaining_s=left_s, facts=facts))

    def _with_times(self, ended: Ended) -> Ended:
        """Return an end with the times of all commands, and with the failures passed over."""
        in_all = replace(ended, elapsed_s=self._elapsed_s, leftovers=self._leftovers)
        facts: Facts = {
            **ended.facts,
            "elapsed_s": round(self._elapsed_s, 3),
            "leftover_processes": self._leftovers,
        }
        if self._limit_s is not None:
            in_all = replace(in_all, remaining_s=self._limit_s - self._elapsed_s)
        return replace(in_all, facts=self._facts(facts))

    def _facts(self, facts: Facts) -> Facts:
        """Return facts with the failures that the step has passed over."""
        passed = self._passed[:TOLD_FAILURES]
        return {**facts, "failed_commands": passed} if passed else facts
