"""Rules for the run of one command of a definition: success, limits, progress."""

# Annotations are not postponed: msgspec would compile each when a job starts.
from typing import Annotated

import msgspec

from zwrap.job import Count
from zwrap.program.keys.conditions import ValueRule
from zwrap.program.keys.marks import FILLED
from zwrap.program.keys.progress import Progress as Progress


class TextRule(msgspec.Struct, forbid_unknown_fields=True):
    """A regular expression and the file in which it is searched, or ``stdout`` or ``stderr``."""

    file: Annotated[str, FILLED]
    """Pattern of the files, or ``stdout`` or ``stderr``, for the program's own output."""
    pattern: str
    """Regular expression; ``^`` and ``$`` match at the ends of each line."""


class Success(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Rules of success; a run is a success if every given rule holds."""

    exit_status: list[int] = msgspec.field(default_factory=lambda: [0])
    """Accepted exit statuses; empty: any."""
    files: Annotated[list[str], FILLED] = []
    """Patterns of files that the run must have written; one match of each must not be empty."""
    no_files: Annotated[list[str], FILLED] = []
    """Patterns of files that the run must not have written."""
    text: list[TextRule] = []
    """Texts that must be found, each in its file."""
    no_text: list[TextRule] = []
    """Texts that must not be found."""
    values: list[ValueRule] = []
    """Rules on values of parsed outputs, tried when all others hold."""


class Limits(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Bounds on a run."""

    time: object = None
    """Time limit, in seconds or as ``H:MM:SS``, of this command only. `timeout` in job_parameters
    replaces that of the definition's own command, and bounds all commands together."""
    grace_s: Count = 10
    """Time between SIGTERM and SIGKILL, in seconds."""
