"""The heartbeat shell around any command, without a recipe: `zwrap exec`."""

from __future__ import annotations

import os
import signal
import stat
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from zwrap.calls.batchjob import batch_job
from zwrap.scheduler import Meaning
from zwrap.transport.contract import Transport
from zwrap.wrapper.ended import Ended
from zwrap.wrapper.heartbeat import Heartbeat, Status
from zwrap.wrapper.interruption import watched
from zwrap.wrapper.outbox import Outbox
from zwrap.wrapper.process import Program

LAST_BEAT_WAIT_S = 3.0
"""Longest wait for the last heartbeat to be sent, in seconds; it is not a result."""


def run_command(
    argv: Sequence[str],
    connect: Callable[[], Transport],
    *,
    name: str,
    limit_s: float | None = None,
    grace_s: float = 10.0,
) -> Ended:
    """Run a command with heartbeats, time limit, guard and signals; return how it ended.

    It has the standard streams of this process. Heartbeats go to topic ``transient.status``, and
    nothing else is sent; nothing that happens to the transport delays or ends the command.

    Args:
        argv: the command and its arguments, run without a shell in the current directory.
        connect: opens the transport; called on a thread of its own, again when it fails.
        name: name that monitors show for the task.
        limit_s: time limit in seconds; None: there is none.
        grace_s: seconds between the signal that asks the command to end, and SIGKILL.

    Raises:
        ProgramError: the command cannot be started.
    """
    job, inside = batch_job()
    heartbeat = Heartbeat(name, name, dict(job.fields))
    running: list[Program] = []
    stopped: list[str] = []

    def signalled(number: signal.Signals, meaning: Meaning) -> None:
        if meaning is Meaning.STOP:
            stopped.append(number.name)
            for program in running:
                program.stop(number.name)

    with watched(inside.signals, signalled):
        program = Program(
            argv,
            directory=Path.cwd(),
            environment=os.environ,
            stdout=None,
            stderr=None,
            grace_s=grace_s,
        )
        running.append(program)
        for name_ in stopped[:1]:  # a signal that came while it was being started
            program.stop(name_)
        heartbeat.pid = program.pid
        heartbeat.log = output_file()
        heartbeat.status = Status.PROCESSING
        outbox = Outbox(connect, None, heartbeat.body)
        outbox.start()
        ended = program.wait(limit_s)
        failed = bool(ended.returncode or ended.timed_out or ended.stopped_by)
        heartbeat.pid = None
        heartbeat.fields["exit_status"] = ended.exit_status
        heartbeat.status = Status.ERROR if failed else Status.END
        outbox.finish(LAST_BEAT_WAIT_S)
    return ended


def output_file() -> Path | None:
    """Return the file that standard output goes to; None for a pipe or a terminal."""
    try:
        descriptor = sys.stdout.fileno()
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return Path(os.readlink(f"/proc/self/fd/{descriptor}"))
    except (OSError, ValueError):
        return None
    return None
