"""Trial of a definition without broker, site and job: on the files of a finished run, or by a run.

The code is that of a job. Every channel on which the definition sends is connected to a node whose
queue has the channel's name, so that the messages of a trial show what a recipe would get.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec
from msgspec.structs import replace

from zwrap.calls.batchjob import batch_job
from zwrap.message.content import Outgoing
from zwrap.program.asked import as_asked
from zwrap.program.causes.recognition import Recognized
from zwrap.program.checks import report
from zwrap.program.definition import Definition
from zwrap.program.files import writing
from zwrap.program.keys.messages import part_of
from zwrap.program.keys.options import parameter_files
from zwrap.recipe.envelope import Envelope
from zwrap.recipe.graph import Recipe
from zwrap.wrapper.command import CommandRun
from zwrap.wrapper.ended import Ended
from zwrap.wrapper.heartbeat import Heartbeat
from zwrap.wrapper.interruption import watched
from zwrap.wrapper.replay import final
from zwrap.wrapper.step import ProgramStep
from zwrap.wrapper.stopping import Stopping

ALWAYS = ("result-individual-file", "result-all-files", "success", "failure", "completed")
"""Channels of every step."""

STDOUT, STDERR = (".stdout", ".out"), (".stderr", ".error", "-error.log", ".errors")
"""Ends of names, behind the program's, under which others keep its output."""


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """The judgement on a run, with all that led to it."""

    program: str
    source: str
    """File of the definition."""
    directory: str
    """Directory of the run."""
    exit_status: int
    failures: list[str]
    """Reasons why the run failed; empty for a success."""
    known: Recognized | None
    """Known error that explains the failure; null: none does."""
    rules: list[report.RuleReport]
    outputs: list[report.OutputReport]
    files: list[report.FilesReport]
    untaken: list[str]
    """Files that no pattern of result files takes."""
    messages: list[Outgoing]


class Trial:
    """One try of a definition in a directory."""

    def __init__(
        self,
        definition: Definition,
        parameters: Mapping[str, object],
        payload: object,
        directory: Path,
        *,
        saved: bool = False,
    ) -> None:
        """Fill in the definition.

        Args:
            definition: The definition.
            parameters: Job parameters.
            payload: Message for the step.
            directory: Working directory.
            saved: True if the directory holds the files of a finished run; it may be the one in
                which the program ran, or the working directory above that.

        Raises:
            ProgramError: The job parameters do not fit the definition.
        """
        parameters = {**parameters, "working_directory": str(directory)}
        definition = as_asked(definition, parameters, "The command line", _permit)
        envelope = _envelope(definition, parameters, payload)
        heartbeat = Heartbeat(definition.name, definition.name, {})
        self._step = ProgramStep(definition, envelope, heartbeat)
        if saved and not (directory / self._step.definition.directory).is_dir():
            self._step = ProgramStep(replace(definition, directory=""), envelope, heartbeat)
        for command in self._step.commands if saved else ():
            _take_output(command)
        self._step.keep_judged()
        self._envelope = envelope

    @property
    def definition(self) -> Definition:
        """Definition with its file names filled in."""
        return self._step.definition

    def judge(self, exit_status: int) -> Judged:
        """Judge the files in the directory, all of which count as written by the run.

        `exit_status`: that of the program, or minus the number of the signal that ended it.
        """
        return self._judged(self._step.judge(0.0, exit_status, copy=False))

    def run(self) -> Judged:
        """Run the program and judge the run; SIGTERM and SIGINT end it as they end a job's."""
        _, inside = batch_job()
        stopping = Stopping(None, lambda: None)
        with watched(inside.signals, stopping.signalled):
            return self._judged(self._step.run(stopping.running, stopping.ordered_by))

    def _judged(self, ended: Ended) -> Judged:
        """Return the judgement on a run that has ended."""
        run, definition = self._step.judged, self._step.definition
        assert run is not None  # the step has just judged it
        outputs = list(report.outputs(definition, run, self._step.parsed))
        files, untaken = report.result_files(definition, run, outputs)
        return Judged(
            program=definition.name,
            source=definition.source,
            directory=str(run.directory),
            exit_status=ended.returncode,
            failures=ended.failures,
            known=ended.known,
            rules=[
                *(
                    replace(
                        rule,
                        rule=f"{each.label}: {rule.rule}" if each.label else rule.rule,
                        required=each.required,
                    )
                    for each in self._step.judged_commands
                    for rule in report.rules(each.rules, each.run)
                ),
                *report.value_rules(definition, outputs),
            ],
            outputs=outputs,
            files=files,
            untaken=untaken,
            messages=[*ended.messages, *final(self._envelope, ended)],
        )

    def preview(self) -> Iterator[tuple[str, object]]:
        """Yield what a run would do, by name: files that it writes, and what it starts."""
        definition, known = self._step.definition, self._step.known
        for name, content in parameter_files(definition, known).items():
            yield f"file {name}", content
        for before in dict.fromkeys([None, *(each.before for each in definition.write)]):
            for new in writing.new_files(definition, known, before):
                yield f"file {new.name}", new.content
        for key in ("link", "copy"):
            for placed in writing.placed_files(definition, known, key):
                yield f"{key} {placed.name}", placed.source
        for command in self._step.commands:
            filled, place = command.fill(), f"{command.name}, " * (command.planned.total > 1)
            yield f"{place}environment", filled.environment
            if filled.stdin is not None:
                yield f"{place}standard input", filled.stdin
            yield f"{place}command", filled.argv


def _take_output(command: CommandRun) -> None:
    """Take output that others have kept under another name, where there is none of zwrap's own."""
    name, is_first = command.planned.command.name, command.planned.is_first
    # a NAME.log without zwrap's NAME.err is the program's own, as DIALS writes dials.index.log
    is_own = {"stdout": command.stderr.exists() or command.has_log_of_its_own, "stderr": True}
    for end, others in (("stdout", STDOUT), ("stderr", STDERR)):
        if end == "stdout" and command.planned.command.stdout and not command.has_log_of_its_own:
            continue
        if is_own[end] and getattr(command, end).exists():
            continue
        for other in (*(f"{name}{each}" for each in others), *([end] if is_first else [])):
            if (file := command.directory / other).is_file():
                setattr(command, end, file)
                break


def _permit(key: str) -> None:
    """Permit shell lines under a key: who tries a definition may run them anyway."""
    del key


def _envelope(
    definition: Definition, parameters: Mapping[str, object], payload: object
) -> Envelope:
    """Return the step of a recipe in which each channel has a node of its name."""
    channels = dict.fromkeys(
        (
            *ALWAYS,
            *(output.channel or name for name, output in definition.outputs.items()),
            *(_channel(name, body) for name, body in definition.messages.items()),
        )
    )
    numbers = {channel: number for number, channel in enumerate(channels, start=2)}
    nodes = {str(number): {"queue": channel} for channel, number in numbers.items()}
    step = {"job_parameters": dict(parameters), "output": numbers}
    recipe = Recipe({"start": [[1, []]], "1": step, **nodes}, f"for {definition.name}")
    return Envelope(recipe, 1, payload=payload, environment={"ID": "trial"})


def _channel(name: str, body: object) -> str:
    """Return the channel of a further message."""
    part = part_of(body)
    return part.channel if part and part.channel else name
