"""Submit through the DRMAA library, in helper processes.

A call of a C library cannot be interrupted, so a helper that does not answer in time is killed.
One call in some hundred takes a second, because the library misses the answer and looks again only
then. Calls at the same time have separate helpers, so that the others go on.
"""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import threading
from collections import defaultdict

import msgspec

from zwrap.calls.acting import boot_time, inherited
from zwrap.host.programs import ELSEWHERE, own_python
from zwrap.scheduler import DrmaaCall, Reply

_idle: dict[tuple[object, ...], list[_Helper]] = defaultdict(list)
"""Helpers that wait for a call, by their environment."""

_lock = threading.Lock()


def submit(call: DrmaaCall) -> Reply:
    """Submit a job, or an array, and return the reply, as `DrmaaCall` describes it.

    The reply has no status if it is not known whether the job was accepted.
    """
    key = (call.only, *sorted(call.environment.items()))
    with _lock:
        helper = _living(_idle[key]) or _Helper(call.environment)
    reply = helper.submit(call)
    with _lock:
        _idle[key].append(helper)
    return reply


def _living(helpers: list[_Helper]) -> _Helper | None:
    """Take a helper that runs from a list; those that have died before it are dropped for good."""
    while helpers:
        helper = helpers.pop()
        if helper.lives():
            return helper
        helper.end()
    return None


class _Helper:
    """One process of `zwrap.calls.drmaahelper`, which ends when its input does."""

    def __init__(self, environment: dict[str, str]) -> None:
        process = subprocess.Popen(
            own_python("-m", "zwrap.calls.drmaahelper"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **environment, "GLIBC_TUNABLES": _TUNABLES},
            cwd=ELSEWHERE,
            start_new_session=True,
            pass_fds=inherited(),
        )
        assert process.stdin
        assert process.stdout
        self._process, self._input, self._output = process, process.stdin, process.stdout

    def lives(self) -> bool:
        """Return True if the process runs."""
        return self._process.poll() is None

    def submit(self, call: DrmaaCall) -> Reply:
        """Submit a job; the process is killed if it does not answer in time."""
        try:
            until = boot_time() + call.timeout_s
            self._input.write(msgspec.json.encode((call, until)) + b"\n")
            self._input.flush()
        except OSError:
            pass  # the process died; an answer that it gave before counts
        line = self._line(call.timeout_s)
        if line is None:
            self.end()
            return Reply(status=None, error=f"no answer from DRMAA within {call.timeout_s:g} s")
        try:
            return msgspec.json.decode(line, type=Reply)
        except msgspec.DecodeError:
            self.end()
            return Reply(status=None, error="the process that loads DRMAA died")

    def _line(self, timeout_s: float) -> bytes | None:
        """Return the next line of output; b"" at the end, None after `timeout_s` seconds."""
        ready, _, _ = select.select([self._output], [], [], timeout_s)
        return self._output.readline() if ready else None

    def end(self) -> None:
        """Kill the process if it runs, and close what leads to it."""
        self._process.kill()
        for stream in (self._input, self._output):
            with contextlib.suppress(OSError):
                stream.close()
        self._process.wait()


_TUNABLES = "glibc.rtld.optional_static_tls=2048"
"""Tunable of the C library without which Debian's libdrmaa cannot be loaded: the library needs
libjemalloc, whose thread-local storage does not fit otherwise."""
