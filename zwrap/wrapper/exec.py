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
from zwrap.wrapper.heartbeat import Heartbeat, Status
from zwrap.wrapper.interruption import watched
from zwrap.wrapper.outbox import Outbox
from zwrap.wrapper.process import Ended, Program

LAST_BEAT_WAIT_S = 3.0
"""The last heartbeat is worth no more waiting: it is no result."""


def run_command(
    argv: Sequence[str],
    connect: Callable[[], Transport],
    *,
    name: str,
    limit_s: float | None = None,
    grace_s: float = 10.0,
) -> Ended:
    """Run a command with heartbeats, time limit, guard and signals; its own standard streams.

    Nothing that happens to the message transport delays or ends the command.
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
    """The file that standard output goes to, as in a batch job; None for a pipe or a terminal."""
    try:
        descriptor = sys.stdout.fileno()
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return Path(os.readlink(f"/proc/self/fd/{descriptor}"))
    except (OSError, ValueError):
        return None
    return None
