"""One step run by a program definition: prepare, run, judge, and make messages of its results."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from zwrap.errors import ProgramError
from zwrap.host.beneath import ANYWHERE, AllowedDirectories, OutsideError
from zwrap.host.faults import of_named_paths
from zwrap.host.files import open_to_append
from zwrap.host.filetime import touched
from zwrap.host.modes import READ_FILE
from zwrap.host.programs import to_run
from zwrap.message.content import Outgoing
from zwrap.program import invocation, judgement
from zwrap.program.definition import Definition
from zwrap.program.judgement import ResultRecord
from zwrap.recipe.envelope import Envelope
from zwrap.units import seconds
from zwrap.wrapper import results
from zwrap.wrapper.ended import Ended, Facts
from zwrap.wrapper.heartbeat import TAIL_BYTES, TAIL_LINES, Heartbeat
from zwrap.wrapper.permission import write_files
from zwrap.wrapper.process import Program

if TYPE_CHECKING:
    from zwrap.wrapper.scratch import ScratchDirectory

log = logging.getLogger(__name__)


class ProgramStep:
    """The run of one program definition for one recipe step."""

    def __init__(
        self,
        definition: Definition,
        envelope: Envelope,
        heartbeat: Heartbeat,
        allowed: AllowedDirectories = ANYWHERE,
    ) -> None:
        """Fill in the definition from the step; ProgramError or RequestError if that fails.

        `allowed`: directories below which the step may name paths.
        """
        self._envelope = envelope
        self._allowed = allowed
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
        self._stdout = self._directory / f"{definition.name}.log"
        self._stderr = self._directory / f"{definition.name}.err"
        limit = parameters.get("timeout") or definition.limits.time
        self._limit_s = None if limit is None else seconds(limit, "job_parameters, key 'timeout'")

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
            program = self._start(place)
        self._heartbeat.pid = program.pid
        self._heartbeat.log, self._heartbeat.allowed = self._stdout, self._allowed
        self._heartbeat.progress = self._definition.progress
        with running(program):
            ended = program.wait(self._limit_s)
        self._heartbeat.pid = None
        run = self._finished(began, ended.returncode)
        facts: Facts = {
            "exit_status": ended.exit_status,
            "elapsed_s": round(ended.elapsed_s, 3),
            "leftover_processes": ended.leftovers,
            "stderr_tail": self._allowed.last_lines(self._stderr, TAIL_LINES, TAIL_BYTES),
        }
        saved = self._has_saved(ended)
        done = self._could_be_done(ended) and not judgement.failures(self._definition, run)
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
        contents = invocation.parameter_files(self._definition, self._known)
        write_files(self._directory, place, contents, self._allowed)
        for file in (self._stdout, self._stderr):  # output of an earlier run must not be judged
            (place / file.name).unlink(missing_ok=True)
        return _time_stamp(place)

    def _start(self, place: Path) -> Program:
        """Start the program."""
        definition, checkpoint = self._definition, self._definition.checkpoint
        stop_signal, save = signal.SIGTERM, None
        if checkpoint and checkpoint.signal:
            stop_signal = signal.Signals[f"SIG{checkpoint.signal}"]
        elif checkpoint:
            save = functools.partial(self._save, checkpoint.command or [])
        argv = invocation.argv(definition, self._known)
        environment = invocation.environment(definition, self._known)
        with (
            of_named_paths("The output of the program cannot be written", ProgramError),
            self._allowed.file(self._stdout, self._where) as stdout,
            self._allowed.file(self._stderr, self._where) as stderr,
        ):
            return Program.start(
                argv,
                directory=place,
                environment={**program_environment(os.environ), **environment},
                stdout=stdout,
                stderr=stderr,
                grace_s=definition.limits.grace_s,
                stop_signal=stop_signal,
                save=save,
            )

    def _finished(self, began: float, exit_status: int) -> judgement.Run:
        """Return the run to judge."""
        return judgement.Run(
            allowed=self._allowed,
            directory=self._directory,
            stdout=self._stdout,
            stderr=self._stderr,
            began=began,
            exit_status=exit_status,
        )

    # -- a program that can save its state ---------------------------------------------------------

    def _save(self, command: Sequence[str], limit_s: float) -> bool:
        """Run the command that lets the program save its state; return True if that succeeded."""
        environment = program_environment(os.environ)
        try:
            with (
                self._allowed.file(self._stderr, self._where) as place,
                open_to_append(place, READ_FILE) as stream,
            ):
                done = subprocess.run(
                    command, executable=to_run(command[0], environment),
                    cwd=self._directory, env=environment, stdin=subprocess.DEVNULL,
                    stdout=stream, stderr=stream, timeout=limit_s, check=False,
                )  # fmt: skip
        except (OSError, OutsideError, subprocess.TimeoutExpired) as error:
            log.error("The program could not save: %s", error)
            return False
        return done.returncode == 0

    def _has_saved(self, ended: Ended) -> bool:
        """Return True if the program has saved its state.

        Its exit status tells so even if the signal did not come from this process: a batch system
        that signals all processes of a job may be faster.
        """
        checkpoint = self._definition.checkpoint
        if checkpoint is None or ended.timed_out:
            return False
        if not checkpoint.exit_status:
            return ended.saved
        listed = ended.exit_status in checkpoint.exit_status
        return listed and (ended.saved or bool(checkpoint.signal))

    def _could_be_done(self, ended: Ended) -> bool:
        """Return True if the program may have finished its work when it was asked to save.

        That is possible if its exit status tells that it did not save its state.
        """
        checkpoint = self._definition.checkpoint
        known = bool(checkpoint and checkpoint.exit_status and ended.stopped_by)
        return known and not self._has_saved(ended)

    def judge(self, began: float, exit_status: int | None, *, copy: bool) -> Ended:
        """Judge the files of an earlier run, without a run.

        Args:
            began: Time by the filesystem, in seconds since the epoch; older files do not count.
            exit_status: Exit status of the program, or minus the number of the signal that killed
                it; None: not known, and not judged.
            copy: True if results are copied to the places that the step names.
        """
        definition = self._definition
        if exit_status is None:
            success = msgspec.structs.replace(definition.success, exit_status=[])
            self._definition = msgspec.structs.replace(definition, success=success)
        ended = Ended(returncode=exit_status or 0)
        return self._judge(ended, self._finished(began, ended.returncode), [], copy=copy)

    def _judge(
        self, ended: Ended, run: judgement.Run, interruptions: list[str], *, copy: bool = True
    ) -> Ended:
        """Return the end with failures and messages; an interruption is the only failure."""
        definition = self._definition
        failures = interruptions or judgement.failures(definition, run)
        parsed: dict[str, object] = {}
        if not failures:
            parsed, failures = judgement.parsed_outputs(definition, run)
        records = judgement.result_files(definition, run, failed=bool(failures))
        try:
            if copy:
                records = results.copied(records, self._working, self._parameters, self._allowed)
        except (ProgramError, OutsideError) as error:
            failures.append(str(error))
        return msgspec.structs.replace(
            ended,
            failures=[f"{definition.name}: {'; '.join(failures)}"] if failures else [],
            messages=self._messages(parsed, records, failed=bool(failures)),
        )

    def _interruptions(self, ended: Ended) -> list[str]:
        """Return a sentence if the program was ended from outside."""
        if ended.stopped_by:
            return [f"it was stopped after {ended.elapsed_s:.0f} s by {ended.stopped_by}"]
        if ended.timed_out:
            return [f"it exceeded its time limit of {self._limit_s} s"]
        return []

    def _messages(
        self, parsed: Mapping[str, object], records: list[ResultRecord], *, failed: bool
    ) -> list[Outgoing]:
        """Return the messages with the results, in the order in which they are sent."""
        send = self._envelope.send
        messages = [
            message for record in records for message in send("result-individual-file", record)
        ]
        if not failed:
            known = {**self._known, **parsed, "files": judgement.file_list(records)}
            for name, output in self._definition.outputs.items():
                if name in parsed and not self._known.get(output.unless or ""):
                    messages += send(output.channel or name, parsed[name])
            for channel, payload in invocation.messages(self._definition, known).items():
                messages += send(channel, payload)
        if records:
            files: dict[str, object] = {"filelist": judgement.file_list(records)}
            if any("partial" in record for record in records):
                files["partial"] = True
            messages += send("result-all-files", files)
        return messages


def program_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a program: the job's, without variables for the wrapper."""
    hidden = ("ZWRAP_TOKEN", "ZWRAP_JOB_DIRECTORY")
    return {name: value for name, value in environment.items() if name not in hidden}


def _time_stamp(directory: Path) -> float:
    """Return the present time of a directory's filesystem; later files belong to the run."""
    try:
        return touched(directory).st_mtime
    except OSError as error:
        raise ProgramError(
            f"The working directory {directory} cannot be written to: {error.strerror}."
        ) from None
