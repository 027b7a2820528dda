"""Run a program of a batch system, with a hard time limit."""

from __future__ import annotations

import contextlib
import errno
import math
import os
import signal
import subprocess
from collections.abc import Mapping

from zwrap.calls.acting import LATER_S, inherited
from zwrap.host.paths import state_directory
from zwrap.host.programs import ELSEWHERE, found
from zwrap.scheduler import Command, Reply

MOST_SAID = 500
"""Largest length of what is quoted of a program that did not end in time, in characters."""


def run(command: Command) -> Reply:
    """Run a program and return its reply; at its time limit its process group is killed.

    That holds also if this process is killed: timeout(1) watches over the program. The reply has no
    status if the program did not end in time or cannot be run.
    """
    ours = {} if command.only else os.environ
    kept = {name: text for name, text in ours.items() if name not in command.unset}
    environment = {**_settled(kept), **command.environment}
    try:
        process = subprocess.Popen(
            [*_watch(command.timeout_s + LATER_S), _program(command, environment),
             *command.argv[1:]],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env=environment,
            cwd=ELSEWHERE,
            start_new_session=True,
            pass_fds=inherited(),
        )  # fmt: skip
    except OSError as error:
        reason = f"{command.argv[0]} cannot be run: {error.strerror}"
        return Reply(status=None, error=reason, unsent=True)
    try:
        output, complaint = process.communicate(timeout=command.timeout_s)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        _, complaint = process.communicate()
        limit = f"no answer from {command.argv[0]} within {command.timeout_s:g} s"
        said = "; ".join(complaint.splitlines())[-MOST_SAID:]
        return Reply(status=None, error=f"{limit}, but: {said}" if said else limit)
    return Reply(status=process.returncode, output=output, error=complaint)


def _settled(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of this process so that they mean the same in another directory."""
    if "ZWRAP_STATE" not in environment:
        return dict(environment)
    return {**environment, "ZWRAP_STATE": str(state_directory())}


def _program(command: Command, environment: Mapping[str, str]) -> str:
    """Return the path of a program; FileNotFoundError or PermissionError if it cannot be run."""
    program = command.argv[0]
    seen = environment.get("PATH", os.defpath)
    path = found(program, seen if command.path is None else command.path)
    if path:
        return path
    if program.startswith(os.sep) and os.path.exists(program):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), program)
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), program)


def _watch(limit_s: float) -> list[str]:
    """Return the beginning of a command line whose program is killed after `limit_s` seconds."""
    timeout = found("timeout", os.defpath)  # of the GNU coreutils; a host may have none
    return [timeout, "-s", "KILL", str(math.ceil(limit_s))] if timeout else []
