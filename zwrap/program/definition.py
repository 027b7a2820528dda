"""Station "program": the types of a program's definition, which is a YAML file.

A definition holds command, inputs, limits, success rules, outputs with their parsers, and messages;
docs/programs.md describes the format. Only parsers of file formats are Python.
"""

# Annotations are not postponed: msgspec would compile each when a job starts.
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from zwrap.errors import ProgramError
from zwrap.job import Count
from zwrap.program.causes.knownerrors import KnownError
from zwrap.program.keys.commandline import Command, CommandLine
from zwrap.program.keys.inputs import Group, Input
from zwrap.program.keys.marks import FILLED, INPUT_NAME
from zwrap.program.keys.rules import (
    Limits as Limits,
    Progress as Progress,
    Success as Success,
    TextRule as TextRule,
)
from zwrap.program.keys.written import OWN, Written


class Checkpoint(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The way in which a program saves its state before its job ends; another job continues.

    Either `signal` or `command` is given.
    """

    signal: Literal["HUP", "INT", "TERM", "USR1", "USR2"] | None = None
    """Signal to the program, which then saves its state and ends."""
    command: list[str] | None = None
    """Command that is run in the program's directory; the program is ended after it."""
    exit_status: list[int] = []
    """Exit statuses of a program that has saved its state; empty: any."""
    before_s: Count = 120
    """Time before the job's time limit at which the program saves its state, in seconds."""
    limit: Count = 10
    """Largest number of further jobs in which the step is continued."""


class OptionBlock(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A block of `job_parameters` whose entries become arguments, as ``key=value``.

    Entries without a value are left out; a list gives an argument for each of its entries. Entries
    that are inputs of the command line itself are not options.
    """

    block: str
    """Key of `job_parameters` that holds the block."""
    names: dict[str, str] = {}
    """Key in the block to the name of the option, where they differ."""
    split: list[str] = []
    """Keys whose text is a list, separated by commas."""
    join: list[str] = []
    """Keys whose list is one argument, with commas between its entries."""
    format: Annotated[str | list[str], FILLED] = "{name}={value}"
    """Form of an argument; a list: of several ones, such as ``["-p", "{name}", "{value}"]``."""
    flag: Annotated[str | list[str] | None, FILLED] = None
    """Form of the argument of an entry that is true or false, which is there if it is true, such as
    ``--{name}``; default: true and false are values as all others."""
    only_named: bool = False
    """True if keys that are not among `names` are left out."""
    without: list[str] = []
    """Keys that are left out."""


class ParameterFile(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A file for the options that begin with `prefix`; the program gets `argument` instead."""

    prefix: str
    """Beginning of the names of the options that go to the file, a line for each."""
    file: str
    """Name of the file, in the directory of the run."""
    argument: str
    """Argument that the program gets once in place of these options."""


class OptionFile(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A file that an option names, which is written before the start if the option is given."""

    option: str
    """Name of the option, whose value is the name of the file."""
    content: Annotated[str, FILLED]
    """Text of the file, in which ``{name}`` stands for an input."""


class Output(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A file that is parsed, and the channel on which its content is sent."""

    file: Annotated[str | list[str], FILLED]
    """Pattern of the file, or several patterns: the first with a file of this run is used."""
    parser: str
    """Name of the parser."""
    options: dict[str, object] = {}
    """Options of the parser."""
    beside: Annotated[dict[str, str], FILLED] = {}
    """Option of the parser to a further file; left out if this run did not write the file."""
    only_if: dict[str, str] = {}
    """Option in `beside` to the key of `job_parameters` under which a false value leaves it out."""
    unless: str | None = None
    """Key of `job_parameters` under which a true value keeps the output from being sent."""
    required: bool = True
    """True if the step fails if the output cannot be read."""
    channel: str | None = None
    """Output channel; None: the name of the output."""


class ResultFile(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Files that are recorded on `result-individual-file` and `result-all-files`."""

    pattern: Annotated[str, FILLED]
    """Pattern of the files, or ``stdout`` or ``stderr``. Values of outputs may be in it, too:
    ``"{symmetry[best]}.mtz"``."""
    type: str = "result"
    """Type of the files: result, log, graph, or another of ISPyB's (debug, input, recip, ...)."""
    rank: int = 1
    """Importance; 1 is the most important."""
    partial: bool = False
    """True if the files are recorded after a failure, too, marked as partial. Files of type `log`
    are always recorded, without the mark."""


Status = Literal["tried", "untried"]
"""State of a definition: one that is `untried` has seen no real output of its program."""


class Expectation(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A finished run, and the judgement that is expected on it; all its files count as new."""

    directory: str
    """Directory with the files of the run, relative to the file of the definition."""
    job_parameters: dict[str, object] = {}
    """Job parameters of the run."""
    payload: object = None
    """Message with which the run began."""
    exit_status: int = 0
    """Exit status of the program, or minus the number of the signal that ended it."""
    outcome: Literal["success", "failure"] = "success"
    """Expected outcome."""
    cause: str | None = None
    """Label of the known error that is expected; not given: any, or none."""
    values: dict[str, object] = {}
    """Name of an output, and the way to a value in it, with dots (``statistics.overall.cc_half``,
    ``blobs.0.score``), to the expected value."""


Scratch = Literal["remove", "keep", "keep_on_failure"]
"""Treatment of the program's own directory on the node's local disk after the run."""

SHIPPED_PROGRAMS = Path(__file__).with_name("shipped")
"""Directory of the definitions that come with zwrap."""


class Definition(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """One program."""

    name: str
    """Name of the program, after which files are named."""
    command: Annotated[CommandLine, FILLED]
    """Command line: a list of arguments, run without a shell, or shell text, in which substituted
    values stay values. In a list ``[-M, "{macro}"]`` is a group of arguments, and ``{if: anomalous,
    then: -ANO}`` or ``{unless: x, then: [...]}`` are arguments under a condition."""
    description: str = ""
    """What the program does, in a line, for people."""
    set_up: Annotated[list[str], FILLED] = []
    """Shell lines that are run before the command in the same shell (module load, ...)."""
    set_up_key: str | None = None
    """Key of `job_parameters` with further such lines, as one text or a list, which are run before
    the first command only; None: none."""
    refused: dict[str, str] = {}
    """Key of `job_parameters` with which the program is not run, to the sentence that says why."""
    ignored: list[str] = []
    """Keys of `job_parameters` with a meaning elsewhere, and none here: a warning is logged."""
    scratch: Scratch | None = None
    """Treatment of the program's own directory on the node's local disk, ``{scratch}``; None: it
    has none."""
    directory: Annotated[str, FILLED] = ""
    """Directory below the working directory in which the program runs."""
    stdin: Annotated[str | None, FILLED] = None
    """Text on standard input, with values as they are: a line whose value is missing is left out,
    one with a list is repeated; a value of several lines is refused. Default: it is empty."""
    stdout: Annotated[str | None, FILLED] = None
    """Name of the file in `directory` that gets standard output; default: NAME.log."""
    for_each: Annotated[dict[str, str], INPUT_NAME] = {}
    """Name of a placeholder to an input, a list: the command runs once for each entry. The number
    of the entry, from 1, is in the placeholder NAME_number."""
    then: list[Command] = []
    """Further commands, which run one after the other behind this one, in the same job."""
    options: list[OptionBlock] = []
    """Blocks of `job_parameters` whose entries become arguments, behind the command line."""
    parameter_files: list[ParameterFile] = []
    """Files to which some of these options go."""
    option_files: list[OptionFile] = []
    """Files that some of these options name."""
    write: list[Written] = []
    """Files that are written before the start."""
    link: Annotated[dict[str, str], FILLED] = {}
    """Name below the directory of the run to the file to which it becomes a link before the start;
    a name that ends in ``/`` is a directory, in which each file of a list keeps its name."""
    copy: Annotated[dict[str, str], FILLED] = {}
    """Likewise, of files that are copied."""
    inputs: dict[str, Input] = {}
    """Values that the program takes from `job_parameters`, by name."""
    blocks: list[str] = []
    """Blocks of `job_parameters` whose entries may be values of inputs. They go before the block of
    the program's name and `job_parameters` itself, the first one before all."""
    groups: list[Group] = []
    """Inputs that depend on each other."""
    environment: Annotated[dict[str, str], FILLED] = {}
    """Variables of the environment that are added for the program."""
    limits: Limits = msgspec.field(default_factory=Limits)
    """Bounds on the run of the command."""
    checkpoint: Checkpoint | None = None
    """How a program that can save its state goes on in another job."""
    success: Success = msgspec.field(default_factory=Success)
    """Rules of success, all of which must hold."""
    errors: list[KnownError] = []
    """Known errors, which tell the cause of a failure; the first that is found counts."""
    errors_of: list[str] = []
    """Names of tables of known errors, which follow the program's own."""
    outputs: dict[str, Output] = {}
    """Files of which a parser makes values, by name; each is sent after a success."""
    files: list[ResultFile] = []
    """Files that are recorded as results."""
    progress: Progress | None = None
    """What heartbeats show as progress."""
    messages: Annotated[dict[str, object], FILLED] = {}
    """Channel to the payload of a further message, filled in from inputs and parsed outputs; the
    payload, and values in it, may be parts, which depend on a condition or are repeated."""
    tests: list[Expectation] = []
    """Finished runs beside the definition, and what is expected of each; ``zwrap program test``
    tells what does not hold."""
    status: Status = "tried"
    """``untried`` for a definition that has seen no real output of its program."""
    source: str = ""
    """File of the definition, for messages to people."""


def check_directory(name: str, source: str) -> None:
    """Raise ProgramError unless the directory of a run is below the working directory.

    The directories of zwrap's own there are not for programs.
    """
    if fault := directory_fault(name):
        raise ProgramError(f"{source}, key 'directory' {fault}")


def directory_fault(name: str) -> str:
    """Return the clause about a directory in which no program runs; "": one may."""
    directory = Path(name)
    if directory.is_absolute() or {"..", OWN} & {*directory.parts}:
        return (
            f"is {name!r}; a directory below the working directory is expected, without '..' and "
            f"{OWN!r}."
        )
    return ""


def file_names(output: Output) -> list[str]:
    """Return the patterns of the files of an output, the preferred one first."""
    return [output.file] if isinstance(output.file, str) else output.file
