"""Checks of what a step asks of a host: sizes for execve(2), and files that it would replace."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path

from zwrap.errors import RequestError

LARGEST_BYTES = 128 * 1024
"""Largest size of one argument, or of one ``NAME=value``, in bytes with the NUL behind it
(MAX_ARG_STRLEN, execve(2))."""

LARGEST_SUM_BYTES = 1024 * 1024
"""Largest size of all variables, or arguments, of a job, in bytes: half of what Linux allows for
both with a stack of 8 MiB, because the batch system and the site add theirs."""


def check_environment(environment: Mapping[str, str], where: str) -> None:
    """Raise RequestError, which names `where`, if no program can be started with the variables."""
    for name, value in environment.items():
        if not name or "\0" in name or "=" in name or "\0" in value:
            raise RequestError(
                f"{where}: variable {name[:100]!r} cannot be set; a name without '=' and texts "
                "without NUL are expected."
            )
    sizes = {name: _size(f"{name}={value}") for name, value in environment.items()}
    _check_sizes(((f"variable {name[:100]!r}", size) for name, size in sizes.items()), where)


def check_arguments(argv: Iterable[str], where: str) -> None:
    """Raise RequestError, which names `where`, if no program can be started with the arguments."""
    words = list(argv)
    for number, word in enumerate(words):
        check_nul(word, f"{where}: word {number + 1}", "program can get")
    _check_sizes(((f"word {number + 1}", _size(word)) for number, word in enumerate(words)), where)


def check_nul(text: str, where: str, can: str) -> None:
    """Raise RequestError, which names `where`, if a text holds a NUL, which no `can`."""
    if "\0" in text:
        raise RequestError(f"{where} holds a NUL character, which no {can}.")


def check_replaceable(path: Path) -> None:
    """Raise RequestError if a new file would replace something that must stay.

    A file that is put in place by a rename would replace a device, a socket or a FIFO, too.
    """
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        kind = os.lstat(path).st_mode
        if not (stat.S_ISREG(kind) or stat.S_ISLNK(kind)):
            raise RequestError(f"{path} is no regular file, and is not replaced by one.")


def _size(text: str) -> int:
    """Return the size of a text as execve(2) passes it on, in bytes."""
    return len(text.encode("utf-8", "surrogatepass")) + 1


def _check_sizes(sizes: Iterable[tuple[str, int]], where: str) -> None:
    """Raise RequestError if one of the named sizes, in bytes, or their sum is too large."""
    total = 0
    for name, size in sizes:
        total += size
        if size > LARGEST_BYTES:
            raise RequestError(
                f"{where}: {name} has {size} bytes; Linux starts no program with more than "
                f"{LARGEST_BYTES}. Write it to a file, and name that."
            )
    if total > LARGEST_SUM_BYTES:
        raise RequestError(
            f"{where}: all have {total} bytes; at most {LARGEST_SUM_BYTES} are accepted, because "
            "Linux starts no program with many more. Write them to a file, and name that."
        )
