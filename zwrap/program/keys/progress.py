"""The rule that finds the progress of a running program in what it writes."""

# Annotations are not postponed: msgspec would compile each when a job starts.
from pathlib import PurePath
from typing import Annotated

import msgspec

from zwrap.errors import short
from zwrap.program.keys.marks import FILLED

ABSOLUTE = (("{working_directory}",), ("{scratch}",))
"""First parts of a path that stand for an absolute one."""


class Progress(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    r"""A rule that finds the progress of a running program in what it writes.

    The groups of the last match are shown, separated by slashes. Of the named groups, `done` is the
    number of things that are done, `total` the number of all (numbers, ``1,234`` is one), and
    `stage` a name: when it changes, counting begins anew. From these come rate and time left.
    """

    pattern: str
    """Regular expression; ``^`` and ``$`` match at the ends of each line, and a carriage return
    ends a line, too, as in progress bars."""
    file: Annotated[str, FILLED] = "stdout"
    """File in which it is searched: ``stdout``, ``stderr``, or a pattern of files below the
    directory of the run, of which the one counts that the program wrote to last."""
    total: Annotated[float, msgspec.Meta(gt=0)] | None = None
    """Number of all things where the program does not print it, such as 100 for per cent; it goes
    before group `total`."""


def file_fault(file: str) -> str:
    """Return a sentence about a file that is not below the directory; empty: it is right."""
    path = PurePath(file)
    outside = path.is_absolute() or path.parts[:1] in ABSOLUTE or ".." in path.parts
    if path.parts and not outside and "\0" not in file and not any(map(_is_odd, path.parts)):
        return ""
    return (
        f"It is {short(file)}; 'stdout', 'stderr' or a pattern of files below the directory of the "
        "run is expected."
    )


def _is_odd(part: str) -> bool:
    """Return True if a part of a pattern is none that all releases of Python know."""
    return "**" in part and part != "**"
