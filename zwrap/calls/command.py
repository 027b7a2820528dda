"""Run a program of a batch system, with a hard time limit."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess

from zwrap.scheduler import Command, Reply


def run(command: Command) -> Reply:
    """Run a program and return its reply; at its time limit its process group is killed.

    The reply has no status if the program did not end in time or cannot be run.
    """
    ours = {} if command.only else os.environ
    kept = {name: text for name, text in ours.items() if name not in command.unset}
    environment = {**kept, **command.environment}
    try:
        process = subprocess.Popen(
            command.argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env=environment,
            start_new_session=True,
        )
    except OSError as error:
        reason = f"{command.argv[0]} cannot be run: {error.strerror}"
        return Reply(status=None, error=reason, unsent=True)
    try:
        output, complaint = process.communicate(timeout=command.timeout_s)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        limit = f"no answer from {command.argv[0]} within {command.timeout_s:g} s"
        return Reply(status=None, error=limit)
    return Reply(status=process.returncode, output=output, error=complaint)
