"""Service Runner: run the commands of recipe steps on this host, without a batch system."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shlex
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar, NamedTuple

from zwrap.attempt.directory import job_directory
from zwrap.configuration.site import Configuration
from zwrap.errors import MessageError, ProgramError, RequestError, short
from zwrap.host.beneath import NULL, AllowedDirectories
from zwrap.host.faults import of_named_paths
from zwrap.host.files import last_lines, write_atomically
from zwrap.message.identity import token_of
from zwrap.message.limits import Limits
from zwrap.recipe.envelope import Envelope
from zwrap.recipe.queues import RUNNER, queue_of_service
from zwrap.recipe.quoting import words
from zwrap.service.contract import STOP_GRACE_S, Service
from zwrap.submission.execution import check_arguments, check_replaceable
from zwrap.submission.named import OpenDirectories, checked
from zwrap.submission.request import (
    absolute_path,
    check_commands,
    file_of,
    step_files,
    variable_pattern,
)
from zwrap.transport.contract import Delivery, Transport
from zwrap.units import seconds
from zwrap.wrapper.process import Program

log = logging.getLogger(__name__)

TIMEOUT_S = 30
"""Default of the time limit of each command, in seconds."""


class Runner(Service):
    """Service that runs commands (queue `runner.submission`).

    With environment variable CUSTOM_QUEUE the queue is `runner.<CUSTOM_QUEUE>.submission`.

    Parameters of the recipe step: `workingdir`, `commands` (a list, each split into words as a
    shell does, but run without one), `timeout` (of each command, 30 s), `output_file`, and
    `recipewrapper`, `recipefile`, `recipeenvironment` as for batch jobs. If a Runner dies, another
    one gets the message and runs the commands again.
    """

    unbounded: ClassVar[bool] = True

    def __init__(self, configuration: Configuration, transport: Transport) -> None:
        super().__init__(configuration, transport)
        configuration.site.security.check_runner()
        self._longest_s = 0.0
        self.queue = queue_of_service(RUNNER)

    def stop_grace_s(self) -> float:
        """Return the time that the commands at hand may take, and some more, in seconds."""
        return self._longest_s + STOP_GRACE_S

    def handle(self, delivery: Delivery, envelope: Envelope | None) -> None:
        """Run the commands of one step, and send `job_processed`."""
        if envelope is None:
            raise MessageError("Commands are run for a recipe step only.")
        environment = {**os.environ, **self.configuration.for_jobs()}
        allowed = self.configuration.site.allowed
        origin = self.signer.origin(delivery.message)
        token = token_of(delivery.message, origin.text if origin.is_proven else None)
        task = _Task(envelope, token, environment, self.limits, allowed)
        self._longest_s = task.longest_s
        failures: list[str] = []
        timed_out = False
        statuses: list[int] = []
        with task.prepared() as places:
            for command in task.commands:
                status, failure, late = task.run(command, places)
                statuses.append(status)
                timed_out |= late
                if failure:
                    log.error("%s", failure)
                    failures.append(failure)
        with self.transport.unit(delivery) as unit:
            if timed_out:
                unit.send(*envelope.send("timeout", ""))
            done = {"processed": True, "exit_status": statuses}
            unit.send(*envelope.send("job_processed", done, default=True))
            if failures:
                facts = {"error": "; ".join(failures), "step": envelope.pointer}
                unit.send(*envelope.send_error({**facts, "exit_status": statuses}))


class _Places(NamedTuple):
    """Paths that stand for what is open while commands run."""

    directory: Path
    output: Path


class _Task:
    """The commands of one step, ready to run."""

    def __init__(
        self,
        envelope: Envelope,
        token: str,
        environment: Mapping[str, str],
        limits: Limits,
        allowed: AllowedDirectories,
    ) -> None:
        self._environment = environment
        self._allowed = allowed
        where = f"node {envelope.pointer}, parameters"
        parameters: object = envelope.step.get("parameters")
        if not isinstance(parameters, dict):
            raise RequestError(f"{where}: an object with 'workingdir' and 'commands' is expected.")
        self.directory = absolute_path(parameters.get("workingdir"), f"{where}, key 'workingdir'")
        commands = parameters.get("commands")
        if isinstance(commands, str):
            commands = [commands]
        if not isinstance(commands, list) or not commands:
            raise RequestError(f"{where}, key 'commands': a list of commands is expected.")
        if len(commands) > limits.commands:
            raise RequestError(
                f"{where}, key 'commands' holds {len(commands)} commands; up to {limits.commands} "
                "are run for one step (section limits, key 'commands'). Put them into a script."
            )
        self._limit_s = seconds(parameters.get("timeout") or TIMEOUT_S, f"{where}, key 'timeout'")
        own = job_directory(self.directory, token)
        self.output = file_of(self.directory, parameters.get("output_file"), own, "runner.out")
        text = " ".join(map(str, commands))
        check_commands(text, limits, f"{where}, key 'commands'")
        self._variables, self._files = step_files(envelope, parameters, self.directory, own, text)
        self._named = checked(allowed, parameters, self.directory, where, ("output_file",))
        self.commands = [self._words(command) for command in commands]
        for number, argv in enumerate(self.commands, 1):
            check_arguments(argv, f"{where}, key 'commands', command {number}")
        self.longest_s = self._limit_s * len(self.commands)

    def _words(self, command: object) -> list[str]:
        """Return a command as an argument list; each value in it stays within one argument."""
        argv = [str(word) for word in command] if isinstance(command, list) else _split(command)
        if not argv:
            raise RequestError(f"The command {short(command)} is empty.")
        for name, value in self._variables.items():
            literal = value.replace("\\", "\\\\")  # a template of re.sub
            argv = [re.sub(variable_pattern(name), literal, word) for word in argv]
        return argv

    @contextlib.contextmanager
    def prepared(self) -> Iterator[_Places]:
        """Create the working directory and the files that the commands name; keep them open."""
        with contextlib.ExitStack() as stack:
            with of_named_paths("The files of the step cannot be written", RequestError):
                files = stack.enter_context(OpenDirectories(self._allowed, self._named))
                if self.output != NULL:
                    files.make_parent(self.output)
                files.make_working(self.directory)
                for path, content in self._files.items():
                    files.make_parent(path)
                    check_replaceable(files[path])
                    write_atomically(files[path], content)
                _check_output(files[self.output] if self.output != NULL else NULL)
                where = self._named.get(self.output, "The output of the commands")
                output = self._allowed.file(self.output, where)
                directory = self._allowed.directory(self.directory, self._named[self.directory])
                places = _Places(stack.enter_context(directory), stack.enter_context(output))
            yield places

    def run(self, argv: list[str], places: _Places) -> tuple[int, str, bool]:
        """Run one command; return exit status, failure ("" if none), and whether it timed out."""
        name = shlex.join(argv)
        try:
            program = Program.start(
                argv,
                directory=places.directory,
                environment=self._environment,
                stdout=places.output,
                stderr=places.output,
            )
        except ProgramError as error:
            return 127, str(error), False
        ended = program.wait(self._limit_s)
        if ended.timed_out:
            return ended.exit_status, f"{name} exceeded its timeout of {self._limit_s} s", True
        if ended.returncode:
            said = " | ".join(last_lines(places.output, 1, 1000))
            return ended.exit_status, f"{name} exited with {ended.exit_status}: {said}", False
        return 0, "", False


def _check_output(file: Path) -> None:
    """Raise RequestError if output cannot be appended to a file without further delay."""
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISREG(file.stat().st_mode) and file != NULL:
            raise RequestError(f"The output file {file} is no regular file.")


def _split(command: object) -> list[str]:
    """Split a command line as a shell does; at blanks only if quotes do not match."""
    try:
        return words(str(command))
    except ValueError:
        return str(command).split()
