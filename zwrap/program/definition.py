"""Station "program": wrappers as data. One YAML definition describes one program.

Command, inputs, limits, success rules, outputs with their parsers, and messages; see
docs/programs.md for the format. Only parsers for file formats are Python.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from zwrap.errors import ProgramError
from zwrap.job import Count


class Input(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """One value that the command line may use."""

    description: str = ""
    required: bool = False
    default: object = None
    file: bool = False
    """True if the value names a file (or a list of them) that must exist."""


class TextRule(msgspec.Struct, forbid_unknown_fields=True):
    """A regular expression, searched in a file of the working directory, stdout or stderr."""

    file: str
    pattern: str
    """Each line is searched: ``^`` and ``$`` match at its ends."""


class Success(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Rules for a run to be a success; every one that is stated must hold."""

    exit_status: list[int] = msgspec.field(default_factory=lambda: [0])
    """Accepted exit statuses; empty: any."""
    files: list[str] = []
    """Patterns of files that this run must have written, not empty."""
    no_files: list[str] = []
    """Patterns of files that this run must not have written."""
    text: list[TextRule] = []
    no_text: list[TextRule] = []


class Limits(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Bounds on a run."""

    time: object = None
    """Longest run, in seconds or ``H:MM:SS``; `timeout` in job_parameters goes before it."""
    grace_s: Count = 10
    """Seconds between SIGTERM and SIGKILL."""


class Checkpoint(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """How the program saves what it has when its job is about to end.

    The step then goes on in another job. One of `signal` and `command` is given.
    """

    signal: Literal["HUP", "INT", "TERM", "USR1", "USR2"] | None = None
    """Sent to the program, which saves and ends."""
    command: list[str] | None = None
    """Run in the program's directory; after it the program is ended."""
    exit_status: list[int] = []
    """Exit statuses of a program that has saved; empty: any."""
    before_s: Count = 120
    """Seconds before the time limit of its job at which it saves."""
    limit: Count = 10
    """Number of further jobs in which the step may go on."""


class OptionBlock(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A block of `job_parameters` whose entries become arguments, as ``key=value``.

    Entries without a value are left out, lists are repeated. Entries that are inputs of the
    command line itself are not options.
    """

    block: str
    names: dict[str, str] = {}
    """Key in the block to name of the option, where they differ."""
    split: list[str] = []
    """Keys whose text is a list with commas in it."""
    format: str = "{name}={value}"
    """Form of an argument."""
    only_named: bool = False
    """True if what is not among `names` is left out."""


class ParameterFile(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A file for the options that begin with `prefix`; the program gets `argument` instead."""

    prefix: str
    file: str
    argument: str


class Output(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A file that is parsed, and the channel that its content is sent on."""

    file: str | list[str]
    """One file, or several of which the first that this run wrote is taken."""
    parser: str
    options: dict[str, object] = {}
    """Options of the parser."""
    beside: dict[str, str] = {}
    """Further files for the parser, by option; left out where this run did not write them."""
    unless: str | None = None
    """Not sent when `job_parameters` holds something true under this key."""
    required: bool = True
    """True if the step fails when it cannot be read."""
    channel: str | None = None
    """Output channel; the output's own name unless given."""


class ResultFile(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Files that are recorded on `result-individual-file` and `result-all-files`."""

    pattern: str
    type: str = "result"
    rank: int = 1
    """Importance; 1 is the most important."""
    partial: bool = False
    """True if it is recorded after a failure, too, marked as partial; a file of type `log` is."""


class Progress(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """How progress is read from the end of the program's log while it runs."""

    pattern: str
    """Regular expression; the groups of its last match are shown."""
    file: str = "stdout"


Scratch = Literal["remove", "keep", "keep_on_failure"]
"""Fate of a program's own directory on the node's local disk."""


class Definition(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """One program."""

    name: str
    command: list[str] | str
    """Argument list; or shell text, in which substituted values are quoted."""
    description: str = ""
    set_up: list[str] = []
    """Shell lines run before the command in the program's own shell (module load, ...)."""
    scratch: Scratch | None = None
    """Fate of its own directory on the node's local disk, `{scratch}`; None: it has none."""
    directory: str = ""
    """Directory below the working directory in which the program runs."""
    options: list[OptionBlock] = []
    parameter_files: list[ParameterFile] = []
    inputs: dict[str, Input] = {}
    environment: dict[str, str] = {}
    limits: Limits = msgspec.field(default_factory=Limits)
    checkpoint: Checkpoint | None = None
    success: Success = msgspec.field(default_factory=Success)
    outputs: dict[str, Output] = {}
    files: list[ResultFile] = []
    progress: Progress | None = None
    messages: dict[str, object] = {}
    """Further messages: channel to payload, filled in from inputs and parsed outputs."""
    source: str = ""
    """File in which it stands, for messages to people."""


def check_directory(definition: Definition) -> None:
    """Raise ProgramError unless the directory of the run is below the working directory."""
    directory = Path(definition.directory)
    if directory.is_absolute() or ".." in directory.parts:
        raise ProgramError(
            f"{definition.source}, key 'directory' is {definition.directory!r}; a directory below "
            "the working directory is expected."
        )


def file_names(output: Output) -> list[str]:
    """Return the files of which an output is read, the preferred one first."""
    return [output.file] if isinstance(output.file, str) else output.file
