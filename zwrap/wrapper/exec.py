"""`zwrap exec`: any command with heartbeats, time limit and guard, without a recipe."""

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
"""Longest wait until the last heartbeat is sent, in seconds; short, because it is not a result."""


def run_command(
    argv: Sequence[str],
    connect: Callable[[], Transport],
    *,
    name: str,
    limit_s: float | None = None,
    grace_s: float = 10.0,
) -> Ended:
    """Run a command with heartbeats, time limit, guard and signals; return its end.

    The command has the standard streams of this process. Only heartbeats are sent, to topic
    ``transient.status``; a failure of the transport neither delays nor ends the command.

    Args:
        argv: Command and arguments, which are run without a shell in the current directory.
        connect: Function that opens the transport; called on another thread, again after failures.
        name: Name of the task in monitors.
        limit_s: Time limit, in seconds; None: no limit.
        grace_s: Time between the signal that asks the command to end and SIGKILL, in seconds.

    Raises:
        ProgramError: The command cannot be started.
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
        here = Path.cwd()
        program = Program.start(
            argv, directory=here, environment=os.environ, stdout=None, stderr=None, grace_s=grace_s
        )
        running.append(program)
        for name_ in stopped[:1]:  # a signal that came while it was being started
            program.stop(name_)
        heartbeat.pid, heartbeat.log = program.pid, output_file()
        heartbeat.status = Status.PROCESSING
        outbox = Outbox(connect, None, heartbeat.body)
        outbox.start()
        ended = program.wait(limit_s)
        _last_beat(heartbeat, ended)
        outbox.finish(LAST_BEAT_WAIT_S)
    return ended


def _last_beat(heartbeat: Heartbeat, ended: Ended) -> None:
    """Let the next heartbeat tell the end of the command."""
    failed = bool(ended.returncode or ended.timed_out or ended.stopped_by)
    heartbeat.pid = None
    heartbeat.fields["exit_status"] = ended.exit_status
    heartbeat.status = Status.ERROR if failed else Status.END


def output_file() -> Path | None:
    """Return the file of standard output; None for a pipe or a terminal."""
    try:
        descriptor = sys.stdout.fileno()
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return Path(os.readlink(f"/proc/self/fd/{descriptor}"))
    except (OSError, ValueError):
        return None
    return None
