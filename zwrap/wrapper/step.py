"""One step run by a program definition: prepare, run, judge, and say what to send."""

from __future__ import annotations

import functools
import logging
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from zwrap.errors import ProgramError
from zwrap.host.files import write_atomically
from zwrap.message import Outgoing
from zwrap.program import invocation, judgement
from zwrap.program.definition import Definition
from zwrap.recipe.envelope import Envelope
from zwrap.units import seconds
from zwrap.wrapper import results
from zwrap.wrapper.heartbeat import Heartbeat, tail
from zwrap.wrapper.process import Ended, Program
from zwrap.wrapper.scratch import ScratchDirectory

log = logging.getLogger(__name__)


class StepResult(msgspec.Struct, frozen=True, kw_only=True):
    """How a step ended and what it has to say."""

    failures: list[str]
    """Sentences that say why it failed; empty for a success."""
    exit_status: int
    messages: list[Outgoing] = []
    facts: dict[str, Any] = {}
    """Cause in numbers, for the `error` nodes of the recipe."""
    saved: bool = False
    """The program was ended in the midst, and has saved what it needs to go on."""
    remaining_s: float | None = None
    """What is left of the program's own time limit."""


class ProgramStep:
    """The run of one program definition for one recipe step."""

    def __init__(self, definition: Definition, envelope: Envelope, heartbeat: Heartbeat) -> None:
        self._envelope = envelope
        self._heartbeat = heartbeat
        parameters = envelope.job_parameters
        self._known = invocation.values(
            definition, parameters, envelope.payload, envelope.environment
        )
        self._parameters = parameters
        self._working = Path(str(parameters.get("working_directory") or Path.cwd()))
        self._known["working_directory"] = str(self._working)
        self._scratch = ScratchDirectory(definition.scratch) if definition.scratch else None
        if self._scratch:
            self._known["scratch"] = str(self._scratch.path)
        self._definition = invocation.with_file_names(definition, self._known)
        self._directory = self._working / self._definition.directory
        limit = parameters.get("timeout") or definition.limits.time
        self._limit_s = None if limit is None else seconds(limit, "job_parameters, key 'timeout'")

    def run(self, started: Callable[[Program], None]) -> StepResult:
        """Run the program; `started` is told of it as soon as it runs."""
        if self._scratch is None:
            return self._run(started)
        with self._scratch.made():
            result = self._run(started)
            self._scratch.failed = bool(result.failures)
            return result

    def _run(self, started: Callable[[Program], None]) -> StepResult:
        definition, directory = self._definition, self._directory
        _make_working_directory(directory)
        results.link(self._working, self._parameters)
        invocation.check_files(definition, self._known, directory)
        _write_parameter_files(directory, invocation.parameter_files(definition, self._known))
        stdout = directory / f"{definition.name}.log"
        stderr = directory / f"{definition.name}.err"
        for file in (stdout, stderr):  # an earlier run's words must not be judged
            file.unlink(missing_ok=True)
        began = _time_stamp(directory)
        program = Program(
            invocation.argv(definition, self._known),
            directory=directory,
            environment={
                **program_environment(os.environ),
                **invocation.environment(definition, self._known),
            },
            stdout=stdout,
            stderr=stderr,
            grace_s=definition.limits.grace_s,
            **self._stopping(stderr),
        )
        self._heartbeat.pid = program.pid
        self._heartbeat.log = stdout
        self._heartbeat.progress = definition.progress
        started(program)
        ended = program.wait(self._limit_s)
        self._heartbeat.pid = None
        run = judgement.Run(
            directory=directory,
            stdout=stdout,
            stderr=stderr,
            began=began,
            exit_status=ended.returncode,
        )
        facts = {
            "exit_status": ended.exit_status,
            "elapsed_s": round(ended.elapsed_s, 3),
            "leftover_processes": ended.leftovers,
            "stderr_tail": tail(stderr),
        }
        saved = self._has_saved(ended)
        done = self._could_be_done(ended) and not judgement.failures(definition, run)
        result = self._judge(run, [] if done else self._interruptions(ended))
        status = (ended.exit_status or 1) if result.failures else 0
        remaining_s = self._limit_s - ended.elapsed_s if self._limit_s else None
        return msgspec.structs.replace(
            result, exit_status=status, facts=facts, saved=saved, remaining_s=remaining_s
        )

    # -- a program that can save what it has -------------------------------------------------------

    def _stopping(self, output: Path) -> dict[str, Any]:
        """How `Program` is to stop it."""
        checkpoint = self._definition.checkpoint
        if checkpoint is None:
            return {}
        if checkpoint.signal:
            return {"stop_signal": signal.Signals[f"SIG{checkpoint.signal}"]}
        return {"save": functools.partial(self._save, checkpoint.command or [], output)}

    def _save(self, command: Sequence[str], output: Path, limit_s: float) -> bool:
        """Run the command that lets the program save; whether it did."""
        environment = program_environment(os.environ)
        try:
            with output.open("ab") as stream:
                done = subprocess.run(
                    command, cwd=self._directory, env=environment, stdin=subprocess.DEVNULL,
                    stdout=stream, stderr=stream, timeout=limit_s, check=False,
                )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as error:
            log.error("The program could not save: %s", error)
            return False
        return done.returncode == 0

    def _has_saved(self, ended: Ended) -> bool:
        checkpoint = self._definition.checkpoint
        if checkpoint is None or not ended.stopped_by or not ended.saved:
            return False
        return not checkpoint.exit_status or ended.exit_status in checkpoint.exit_status

    def _could_be_done(self, ended: Ended) -> bool:
        """Whether it may have come to its own end when it was asked to save: its exit status says
        that it did not save.
        """
        checkpoint = self._definition.checkpoint
        known = bool(checkpoint and checkpoint.exit_status and ended.stopped_by)
        return known and not self._has_saved(ended)

    def judge(self, began: float, exit_status: int | None, *, copy: bool) -> StepResult:
        """Judge what an earlier run left, running nothing.

        Files from before `began` do not count; exit status None: not known. Results are copied to
        their places only with `copy`.
        """
        definition = self._definition
        if exit_status is None:
            success = msgspec.structs.replace(definition.success, exit_status=[])
            self._definition = msgspec.structs.replace(definition, success=success)
        run = judgement.Run(
            directory=self._directory,
            stdout=self._directory / f"{definition.name}.log",
            stderr=self._directory / f"{definition.name}.err",
            began=began,
            exit_status=exit_status or 0,
        )
        return self._judge(run, [], copy=copy)

    def _judge(
        self, run: judgement.Run, interruptions: list[str], *, copy: bool = True
    ) -> StepResult:
        definition = self._definition
        failures = interruptions or judgement.failures(definition, run)
        parsed, complaints = ({}, []) if failures else judgement.parsed_outputs(definition, run)
        failures += complaints
        records = judgement.result_files(definition, run, failed=bool(failures))
        try:
            if copy:
                records = results.copied(records, self._working, self._parameters)
        except ProgramError as error:
            failures.append(str(error))
        return StepResult(
            failures=[f"{definition.name}: {'; '.join(failures)}"] if failures else [],
            exit_status=1 if failures else 0,
            messages=self._messages(parsed, records, failed=bool(failures)),
        )

    def _interruptions(self, ended: Ended) -> list[str]:
        if ended.stopped_by:
            return [f"it was stopped after {ended.elapsed_s:.0f} s by {ended.stopped_by}"]
        if ended.timed_out:
            return [f"it exceeded its time limit of {self._limit_s} s"]
        return []

    def _messages(
        self, parsed: Mapping[str, Any], records: list[dict[str, Any]], *, failed: bool
    ) -> list[Outgoing]:
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
            files: dict[str, Any] = {"filelist": judgement.file_list(records)}
            if any("partial" in record for record in records):
                files["partial"] = True
            messages += send("result-all-files", files)
        return messages


def _make_working_directory(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ProgramError(
            f"The working directory {directory} cannot be made: {error.strerror}."
        ) from None


def _write_parameter_files(directory: Path, contents: Mapping[str, str]) -> None:
    for name, content in contents.items():
        try:
            write_atomically(directory / name, content)
        except OSError as error:
            raise ProgramError(
                f"The parameter file {directory / name} cannot be written: {error.strerror}."
            ) from None


def program_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """What the program sees: the job's environment without what the job script gave the wrapper."""
    hidden = ("ZWRAP_TOKEN", "ZWRAP_JOB_DIRECTORY")
    return {name: value for name, value in environment.items() if name not in hidden}


def _time_stamp(directory: Path) -> float:
    """The filesystem's time in a directory: files changed later are of this run."""
    probe = directory / f".zwrap-began-{os.getpid()}-{time.monotonic_ns()}"
    try:
        probe.touch()
        stamp = probe.stat().st_mtime
        probe.unlink()
    except OSError as error:
        raise ProgramError(
            f"The working directory {directory} cannot be written to: {error.strerror}."
        ) from None
    return stamp
