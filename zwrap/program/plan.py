"""The commands of a step, in order, as a definition and the values of its inputs give them."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec
from msgspec.structs import replace

from zwrap.errors import PermanentError, ProgramError, UnknownNameError, short
from zwrap.program.definition import Definition, check_directory
from zwrap.program.filling import Values
from zwrap.program.keys.commandline import (
    NAME_CHARACTERS,
    AskedLine,
    Command,
    check_command,
    check_loop,
    default_name,
    is_name,
    is_true,
)
from zwrap.program.keys.inputs import Place
from zwrap.program.keys.progress import Progress, file_fault
from zwrap.program.keys.rules import Success
from zwrap.program.keys.written import OWN
from zwrap.units import seconds

log = logging.getLogger(__name__)

MOST_ENTRIES = 10_000
"""Largest number of runs of one command."""

FILE_NAME_BYTES = 255
"""Length of the longest name of a file, in bytes."""


class Planned(msgspec.Struct, frozen=True, kw_only=True):
    """One run of a command."""

    command: Command
    """The command, with its file names filled in."""
    values: Values
    """Values of its placeholders."""
    directory: str
    """Directory below the working directory."""
    stdout: str
    """Name of the file that gets standard output."""
    is_stdout_chosen: bool = False
    """True if a value is part of that name."""
    stderr: str
    """Name of the file that gets standard error."""
    options: list[str] = []
    """Arguments behind its command line."""
    is_first: bool
    """True for the definition's own command."""
    entry: str = ""
    """Entry of a loop, as a clause."""
    number: int = 1
    """Number of the run, from 1."""
    total: int = 1
    """Number of all runs of the step."""
    is_only_required: bool = False
    """True if no other run of the step has to succeed."""

    @property
    def label(self) -> str:
        """Which of several commands it is, for people; empty: it is the only one."""
        place = f"{self.number} of {self.total}"
        return f"command {place} ({self.command.name}{self.entry})" if self.total > 1 else ""

    @property
    def blamed(self) -> str:
        """Which command a failure of the step is of; empty: it can only be of this one."""
        return "" if self.is_only_required else self.label


def commands(definition: Definition) -> list[Command]:
    """Return the commands of a definition, its own first.

    Set-up lines, environment and directory of the definition are those of all commands. The set-up
    lines of a step are run once, for the first one: they may change files.
    """
    shared = [line for line in definition.set_up if not isinstance(line, AskedLine)]
    first = Command(
        name=definition.name,
        command=definition.command,
        set_up=definition.set_up,
        stdin=definition.stdin,
        stdout=definition.stdout,
        directory=definition.directory,
        environment=definition.environment,
        for_each=definition.for_each,
        limits=definition.limits,
        success=definition.success,
        progress=definition.progress,
    )
    further = [
        replace(
            each,
            name=each.name or default_name(each.command),
            set_up=[*shared, *each.set_up],
            environment={**definition.environment, **each.environment},
            directory=definition.directory if each.directory is None else each.directory,
        )
        for each in definition.then
    ]
    return [first, *further]


def plan(definition: Definition, known: Mapping[str, object]) -> list[Planned]:
    """Return the runs of the commands of a step, in order.

    Args:
        definition: The definition, as it was read.
        known: Values of its placeholders, by name.

    Raises:
        ProgramError: A name of a file or directory cannot be used, or nothing is to be run.
    """
    found = [
        each
        for command in commands(definition)
        if command.if_ is None or is_true(known.get(command.if_))
        for each in _runs(definition, command, known)
    ]
    if not found:
        raise ProgramError(
            f"{definition.source}, key 'for_each': the list has no entries, so that there is no "
            "command to run."
        )
    _check_files(found, definition.source)
    required = [each for each in found if each.command.required]
    sole = required[0] if len(required) == 1 else None
    return [
        replace(each, number=number, total=len(found), is_only_required=sole is each)
        for number, each in enumerate(found, start=1)
    ]


def _runs(
    definition: Definition, command: Command, known: Mapping[str, object]
) -> Iterator[Planned]:
    """Yield the runs of one command: one, or one for each entry of a list."""
    options: list[str] = []
    if definition.options and command.name == definition.name:
        from zwrap.program.keys.options import option_arguments  # which few programs need

        options = option_arguments(definition, known)
    if not command.for_each:
        yield _filled(definition, command, known, options, "", "")
        return
    [(name, source)] = command.for_each.items()
    given = known.get(source)
    entries = given if isinstance(given, list) else [given]
    entries = [entry for entry in entries if entry not in (None, "")]
    if len(entries) > MOST_ENTRIES:
        raise ProgramError(
            f"{definition.source}, key 'for_each': {source!r} has {len(entries)} entries; up to "
            f"{MOST_ENTRIES} are accepted, because the command runs once for each."
        )
    for number, entry in enumerate(entries, start=1):
        values = {**known, name: entry, f"{name}_number": number}
        which = f", {name} {number} of {len(entries)}"
        yield _filled(definition, command, values, options, f"-{number}", which)


def _filled(
    definition: Definition,
    command: Command,
    known: Mapping[str, object],
    options: list[str],
    suffix: str,
    entry: str,
) -> Planned:
    """Return a run with its file names filled in; `suffix`: end of the names of its logs."""
    values = Values(known, definition.inputs, definition.source)
    names = Values(known, (), definition.source)
    directory = names.one(command.directory or "", "directory")
    check_directory(directory, definition.source)
    stdout, is_chosen = f"{command.name}{suffix}.log", False
    if command.stdout and (named := values.each(command.stdout)):
        stdout = values.one(command.stdout, "stdout") if len(named) > 1 else named[0]
        if fault := stdout_fault(stdout):
            raise ProgramError(f"{definition.source}, key 'stdout' {fault}")
        is_chosen = "{" in command.stdout
    progress = _progress(command.progress, names, definition.source)
    return Planned(
        command=replace(command, success=filled_success(command.success, names), progress=progress),
        values=values,
        directory=directory,
        stdout=stdout,
        is_stdout_chosen=is_chosen,
        stderr=f"{command.name}{suffix}.err",
        options=options,
        is_first=command.name == definition.name,
        entry=entry,
    )


def _progress(progress: Progress | None, names: Values, source: str) -> Progress | None:
    """Return a rule with its file filled in; None, with a warning: that is none of the run.

    No program fails for it.
    """
    if progress is None:
        return None
    try:
        filled = replace(progress, file=names.one(progress.file, "progress"))
        fault = file_fault(filled.file)
    except PermanentError as error:
        fault = str(error)
    if not fault:
        return filled
    log.warning("No progress is shown: %s, key 'progress.file': %s", source, fault)
    return None


def filled_success(success: Success, values: Values) -> Success:
    """Return rules of success with the placeholders in file names filled in.

    What must be there must have a name: ProgramError if the input has no value. A rule for what
    must not be there holds without a name.
    """
    return replace(
        success,
        files=[
            name for text in success.files for name in values.needed_names(text, "success.files")
        ],
        no_files=[name for text in success.no_files for name in values.names(text)],
        text=[
            replace(rule, file=name)
            for rule in success.text
            for name in values.needed_names(rule.file, "success.text")
        ],
        no_text=[
            replace(rule, file=name) for rule in success.no_text for name in values.names(rule.file)
        ],
    )


def environment(planned: Planned) -> dict[str, str]:
    """Return the variables that the definition adds; one whose value is missing is left out."""
    values = Values(planned.values.known, (), planned.values.source)
    return {
        name: values.one(text, f"environment.{name}")
        for name, text in planned.command.environment.items()
        if values.each(text)
    }


def stdout_fault(name: str) -> str:
    """Return the clause about a text that cannot be the file of standard output; "": it can.

    The file is in the directory of its command.
    """
    taken = name in ("", ".", "..", OWN)
    if "/" in name or "\0" in name or taken or len(name) > FILE_NAME_BYTES:
        return (
            f"is {name[:100]!r}; the name of a file is expected, without '/': it is in the "
            "directory of the command."
        )
    return ""


def _check_files(runs: list[Planned], source: str) -> None:
    """Raise ProgramError if two commands would write their output to the same file."""
    taken: set[Path] = set()
    for each in runs:
        for name in (each.stdout, each.stderr):
            file = Path(each.directory, name)
            if file in taken:
                raise ProgramError(f"{source}: {same_file(file)}")
            taken.add(file)


def same_file(file: Path) -> str:
    """Return the sentence about a file that would get the output of two commands."""
    return (
        f"the output of two commands would go to the file {file}; give the commands different "
        "names, and in a loop let 'stdout' hold the number of the entry."
    )


def route_of(number: int) -> tuple[str, ...]:
    """Return the keys that lead to a command of a definition; 0: its own."""
    return ("then", str(number - 1)) if number else ()


def check_commands(definition: Definition, at: Place) -> None:
    """Raise ProgramError for commands that cannot be run.

    `at`: function from keys, from the outermost, to file and line.
    """
    inputs = definition.inputs
    names: set[str] = set()
    for number, command in enumerate(commands(definition)):
        route, which = route_of(number), f", key 'then', command {number}" if number else ""
        where = f"{at(*route)}{which}"
        check_command(command.command, f"{at(*route, 'command')}{which}")
        check_loop(command.for_each, inputs, f"{at(*route, 'for_each')}{which}")
        if number and not is_name(command.name):
            raise ProgramError(
                f"{where}, key 'name' is {short(command.name)}; letters, digits and '_.+-' are "
                f"expected, {NAME_CHARACTERS} at most, because files are named after it."
            )
        if command.name in names:
            raise ProgramError(
                f"{where}: there is a command {command.name!r} before it; give it another 'name'."
            )
        names.add(command.name)
        if number and command.success.values:
            raise ProgramError(
                f"{where}, key 'success.values': values are those of the outputs of the step, and "
                "judged at its end; write the rule under 'success' of the definition."
            )
        if command.limits.time is not None:
            place = f"{at(*route, 'limits', 'time')}{which}, key 'limits.time'"
            seconds(command.limits.time, place)
        if command.if_ is not None and command.if_ not in inputs:
            raise UnknownNameError("input", command.if_, inputs, f"{where}, key 'if'")
    for written in definition.write:
        if written.before is not None and written.before not in names - {definition.name}:
            further = [each for each in names if each != definition.name]
            where = f"{at('write')}, file {written.file!r}, key 'before'"
            raise UnknownNameError("further command", written.before, further, where)
    if definition.checkpoint and definition.for_each:
        raise ProgramError(
            f"{at('checkpoint')}: 'checkpoint' and 'for_each' exclude each other; another job "
            "would begin with the first entry again."
        )
