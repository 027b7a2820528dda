"""Forks in code of a site: a child process that returns into zwrap's own code ends there."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import Iterator


@contextlib.contextmanager
def ending_children() -> Iterator[None]:
    """Call code of others inside the context; a process that it forked ends at the context's end.

    Such a child is a copy of this process, with its connections and its messages: it must never go
    on in our code. It ends with the status of `sys.exit`, with 1 after another exception, which it
    writes to standard error, else with 0.
    """
    parent = os.getpid()
    try:
        yield
    except BaseException as error:
        if os.getpid() != parent:
            _end(error)
        raise
    if os.getpid() != parent:
        _end(None)


def _end(error: BaseException | None) -> None:
    """End this process immediately, with the exit status that the exception stands for."""
    status = 0
    if isinstance(error, SystemExit):
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
    elif error is not None:
        status = 1
        traceback.print_exception(error)
    with contextlib.suppress(Exception):
        sys.stdout.flush()
    with contextlib.suppress(Exception):
        sys.stderr.flush()
    os._exit(status & 0xFF)
