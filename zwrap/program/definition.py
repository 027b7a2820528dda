"""Station "program": wrappers as data. One YAML definition says all about one program.

Command, inputs, limits, success rules, outputs with their parsers, and messages; see
docs/programs.md for the format. Only parsers for file formats are Python.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from zwrap.errors import ProgramError
from zwrap.job import Count
from zwrap.program.parsers.table import check_parser
from zwrap.units import seconds

SHIPPED = Path(__file__).parent
INLINE = "command"
"""The program whose definition stands in the recipe step's own `job_parameters`."""


class Input(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """One value that the command line may use."""

    description: str = ""
    required: bool = False
    default: Any = None
    file: bool = False
    """The value names a file (or a list of them) that must exist."""


class TextRule(msgspec.Struct, forbid_unknown_fields=True):
    """A regular expression, searched in a file of the working directory, stdout or stderr."""

    file: str
    pattern: str


class Success(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What must hold for a run to be a success; everything stated must."""

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

    time: Any = None
    """Longest run, in seconds or ``H:MM:SS``; `timeout` in job_parameters goes before it."""
    grace_s: Count = 10
    """Seconds between SIGTERM and SIGKILL."""


class Checkpoint(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """How the program saves what it has when its job is about to end; the step then goes on in
    another job. One of `signal` and `command`.
    """

    signal: Literal["HUP", "INT", "TERM", "USR1", "USR2"] | None = None
    """Sent to the program, which saves and ends."""
    command: list[str] | None = None
    """Run in the program's directory; after it the program is ended."""
    exit_status: list[int] = []
    """Of a program that has saved; empty: whatever it is."""
    before_s: Count = 120
    """So long before the time limit of its job."""
    limit: Count = 10
    """So often the step goes on in another job."""


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
    only_named: bool = False
    """Leave out what is not among `names`."""


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
    options: dict[str, Any] = {}
    beside: dict[str, str] = {}
    """Further files for the parser, by option; left out where this run did not write them."""
    unless: str | None = None
    """Not sent when `job_parameters` holds something true under this key."""
    required: bool = True
    channel: str | None = None
    """Output channel; the output's own name unless given."""


class ResultFile(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Files that are recorded on `result-individual-file` and `result-all-files`."""

    pattern: str
    type: str = "result"
    rank: int = 1
    partial: bool = False
    """Recorded after a failure, too, marked as partial. Files of type `log` always are."""


class Progress(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """How progress is read from the end of the program's log while it runs."""

    pattern: str
    """Regular expression; its last match counts, its groups are shown."""
    file: str = "stdout"


Scratch = Literal["remove", "keep", "keep_on_failure"]


class Definition(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """One program."""

    name: str
    command: list[str] | str
    """Argument list; or shell text, in which substituted values are quoted."""
    description: str = ""
    set_up: list[str] = []
    """Shell lines run before the command in the program's own shell (module load, ...)."""
    scratch: Scratch | None = None
    """Whether it has a directory of its own on the node's local disk (`{scratch}`), and what
    becomes of that."""
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
    messages: dict[str, Any] = {}
    """Further messages: channel to payload, filled in from inputs and parsed outputs."""
    source: str = ""
    """Where the definition was read, for messages to people."""


def from_mapping(data: Mapping[str, Any], source: str, name: str | None = None) -> Definition:
    """A checked definition, or ProgramError that names file and key."""
    values = {"name": name, **data} if name else dict(data)
    try:
        definition = msgspec.convert({**values, "source": source}, Definition)
    except msgspec.ValidationError as error:
        known = ", ".join(field for field in Definition.__struct_fields__ if field != "source")
        raise ProgramError(f"{source}: {error}. Known keys: {known}.") from None
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*", definition.name):
        raise ProgramError(
            f"{source}, key 'name' is {definition.name!r}; letters, digits and '_.+-' are "
            "expected, because files are named after it."
        )
    check_directory(definition)
    checkpoint = definition.checkpoint
    if checkpoint and bool(checkpoint.signal) == bool(checkpoint.command):
        raise ProgramError(
            f"{source}, key 'checkpoint': one of 'signal' and 'command' is expected."
        )
    if not definition.command:
        raise ProgramError(f"{source}, key 'command' is empty; a list of arguments is expected.")
    for key, output in definition.outputs.items():
        check_parser(output.parser, f"{source}, output {key!r}")
    for key, pattern in _patterns(definition):
        try:
            re.compile(pattern)
        except re.error as error:
            raise ProgramError(
                f"{source}, {key}: {pattern!r} is no regular expression: {error}."
            ) from None
    if definition.limits.time is not None:
        seconds(definition.limits.time, f"{source}, key 'limits.time'")
    return definition


def check_directory(definition: Definition) -> None:
    """Raise ProgramError unless the directory of the run is below the working directory."""
    directory = Path(definition.directory)
    if directory.is_absolute() or ".." in directory.parts:
        raise ProgramError(
            f"{definition.source}, key 'directory' is {definition.directory!r}; a directory below "
            "the working directory is expected."
        )


def file_names(output: Output) -> list[str]:
    """The files of which an output is read, the preferred one first."""
    return [output.file] if isinstance(output.file, str) else output.file


def _patterns(definition: Definition) -> Iterator[tuple[str, str]]:
    """Place and text of every regular expression in a definition."""
    for rule in (*definition.success.text, *definition.success.no_text):
        yield f"success rule for {rule.file}", rule.pattern
    for name, output in definition.outputs.items():
        for key in ("pattern", "header"):
            if key in output.options:
                yield f"output {name!r}, option {key!r}", str(output.options[key])
    if definition.progress:
        yield "key 'progress'", definition.progress.pattern


def from_file(path: Path) -> Definition:
    """Read and check a definition file."""
    import yaml  # not needed by wrapper `command`

    try:
        data = yaml.load(path.read_bytes(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506
    except OSError as error:
        raise ProgramError(f"Program definition {path} cannot be read: {error.strerror}.") from None
    except yaml.YAMLError as error:
        detail = " ".join(str(error).split())
        raise ProgramError(f"Program definition {path} is not valid YAML: {detail}.") from None
    if not isinstance(data, dict):
        raise ProgramError(f"Program definition {path} must be a mapping.")
    return from_mapping(data, str(path), path.stem if "name" not in data else None)


def directories(site_directory: Path | None = None) -> list[Path]:
    """Where definitions are looked for, the site's own first."""
    return [*([site_directory] if site_directory else []), SHIPPED]


def names(site_directory: Path | None = None) -> list[str]:
    """Names of all programs that can be asked for."""
    return sorted(
        {
            INLINE,
            *(file.stem for place in directories(site_directory) for file in place.glob("*.yaml")),
        }
    )


def find(
    name: str, job_parameters: Mapping[str, Any], site_directory: Path | None = None
) -> Definition | None:
    """The definition of that name, or None; `command` stands in `job_parameters` itself."""
    if name == INLINE:
        fields = Definition.__struct_fields__
        data = {key: value for key, value in job_parameters.items() if key in fields}
        if "command" not in data:
            raise ProgramError(
                "Wrapper 'command' runs what job_parameters says, and key 'command' is not there; "
                "a list of arguments is expected."
            )
        return from_mapping({**data, "name": data.get("name", INLINE)}, "job_parameters")
    for directory in directories(site_directory):
        file = directory / f"{name}.yaml"
        if "/" not in name and file.is_file():
            return from_file(file)
    return None
