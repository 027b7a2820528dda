"""Submits through the DRMAA library, in a helper process for each set of environment variables.

A call of a C library cannot be interrupted: a helper that does not answer in time is killed, and
the next call starts another.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import threading
from typing import Any

import msgspec

from zwrap.scheduler import DrmaaSubmission, Reply

_helpers: dict[tuple[tuple[str, str], ...], _Helper] = {}
_lock = threading.Lock()


def submit(call: DrmaaSubmission) -> Reply:
    """Hand the job over; a Reply without status when nobody can say what became of it."""
    with _lock:
        key = tuple(sorted(call.environment.items()))
        helper = _helpers.get(key)
        if helper is None or not helper.lives():
            helper = _helpers[key] = _Helper(call.environment)
        return helper.submit(call)


class _Helper:
    """One process of `zwrap.submission.drmaahelper`; it ends when its input does."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "zwrap.submission.drmaahelper"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **environment, "GLIBC_TUNABLES": _TUNABLES},
            start_new_session=True,
        )

    def lives(self) -> bool:
        return self._process.poll() is None

    def submit(self, call: DrmaaSubmission) -> Reply:
        assert self._process.stdin
        try:
            self._process.stdin.write(msgspec.json.encode(call) + b"\n")
            self._process.stdin.flush()
        except OSError:
            pass  # it died; what it answered before that counts
        line = self._line(call.timeout_s)
        if line is None:
            self._end()
            return Reply(status=None, error=f"no answer from DRMAA within {call.timeout_s:g} s")
        try:
            answer: dict[str, Any] = json.loads(line)
            return msgspec.convert(answer, Reply)
        except (ValueError, msgspec.ValidationError):
            self._end()
            return Reply(status=None, error="the process that loads DRMAA died")

    def _line(self, timeout_s: float) -> bytes | None:
        """The next line of its output, b"" at its end, None past the limit."""
        assert self._process.stdout
        ready, _, _ = select.select([self._process.stdout], [], [], timeout_s)
        return self._process.stdout.readline() if ready else None

    def _end(self) -> None:
        self._process.kill()
        for stream in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                stream.close()  # type: ignore[union-attr]
        self._process.wait()


_TUNABLES = "glibc.rtld.optional_static_tls=2048"
"""Debian's libdrmaa needs libjemalloc, whose thread-local storage does not fit otherwise."""
