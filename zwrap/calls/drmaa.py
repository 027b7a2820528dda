"""Submits through the DRMAA library, in helper processes.

A call of a C library cannot be interrupted: a helper that does not answer in time is killed. One
call in some hundred takes a second, for the library misses the answer and looks again only then;
calls at the same time have helpers of their own, so that the others go on.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import threading
from collections import defaultdict
from typing import Any

import msgspec

from zwrap.scheduler import DrmaaCall, Reply

_idle: dict[tuple[tuple[str, str], ...], list[_Helper]] = defaultdict(list)
"""Helpers that wait for a call, by their environment."""

_lock = threading.Lock()


def submit(call: DrmaaCall) -> Reply:
    """Hand the job over; a Reply without status when nobody can say what became of it."""
    key = tuple(sorted(call.environment.items()))
    with _lock:
        _idle[key] = [helper for helper in _idle[key] if helper.lives()]
        helper = _idle[key].pop() if _idle[key] else _Helper(call.environment)
    reply = helper.submit(call)
    with _lock:
        _idle[key].append(helper)
    return reply


class _Helper:
    """One process of `zwrap.calls.drmaahelper`; it ends when its input does."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "zwrap.calls.drmaahelper"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **environment, "GLIBC_TUNABLES": _TUNABLES},
            start_new_session=True,
        )

    def lives(self) -> bool:
        return self._process.poll() is None

    def submit(self, call: DrmaaCall) -> Reply:
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
