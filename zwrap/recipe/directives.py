"""Protection against values that would add directives for the batch system to a job script.

`qsub` reads options from each line of a script that begins with ``#$``, even within quotes and
here-documents; other batch systems have other words behind ``#``. So no line of a value begins
with ``#``: an empty pair of quotes is put before it.
"""

from __future__ import annotations

import re
import shlex

_MARKED = re.compile(r"\n[ \t]*(?=#)")
_VARIABLE = re.compile(r"\$(?=\{?RECIPE)")
_LINES = re.compile(r"\n[ \t]*(?:(?=#)|\Z)")


def beginning(line: str, text: str) -> str:
    """Return the beginning of the current line, after more text: "", ``#``, or something else."""
    _, newline, last = text.rpartition("\n")
    return (last if newline else line + last).lstrip(" \t")[:2]


def could_direct(text: str, line: str) -> bool:
    """Return True if a value could make a line begin with ``#`` and text of the value.

    Args:
        text: The value.
        line: What `beginning` returns for the text before it.
    """
    if line == "#" and text:
        return True
    marked = line == "" and text.lstrip(" \t").startswith("#")
    return marked or _MARKED.search(text) is not None


def sheltered(text: str, line: str, quotes: str) -> str:
    """Return quoted text of which no line begins with ``#``: empty quotes stand before it.

    Args:
        text: A value as it is written within quotes.
        line: What `beginning` returns for the text before it.
        quotes: Text that ends the quotes and begins them again.
    """
    first = could_direct(text.partition("\n")[0], line)
    return quotes * first + _LINES.sub(lambda match: match[0] + quotes, text)


def single_quoted(text: str, line: str) -> str:
    """Return a value as it stands between single quotes.

    ``$RECIPEWRAP`` and the like, which the Submitter would replace, are parted. `line`: what
    `beginning` returns for the text before it.
    """
    return _VARIABLE.sub("$''", sheltered(text.replace("'", "'\\''"), line, "''"))


def shell_word(text: str) -> str:
    """Return a value as one word for the shell, as `shlex.quote` does, and sheltered."""
    return _VARIABLE.sub("$''", sheltered(shlex.quote(text), "'", "''"))
