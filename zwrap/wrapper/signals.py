"""What a signal means: one table, batch system and signal to stop, warn, suspend or ignore."""

from __future__ import annotations

import contextlib
import enum
import faulthandler
import os
import signal
import sys
from collections.abc import Callable, Iterator


class Meaning(enum.Enum):
    """What the sender of a signal wants."""

    STOP = "stop"
    WARN = "warn"
    SUSPEND = "suspend"
    IGNORE = "ignore"


_ANYWHERE = {
    signal.SIGTERM: Meaning.STOP,
    signal.SIGINT: Meaning.STOP,
    signal.SIGXCPU: Meaning.STOP,
    signal.SIGHUP: Meaning.STOP,
    signal.SIGUSR1: Meaning.IGNORE,
    signal.SIGUSR2: Meaning.IGNORE,
}

TABLE: dict[str, dict[signal.Signals, Meaning]] = {
    "local": _ANYWHERE,
    "none": _ANYWHERE,
    # sbatch(1) --signal warns with the signal that the script asked for; scancel(1) sends TERM.
    "slurm": {
        **_ANYWHERE,
        signal.SIGUSR1: Meaning.WARN,
        signal.SIGUSR2: Meaning.WARN,
    },
    # qsub(1) -notify: USR2 before a kill, USR1 before a suspension.
    "sge": {
        **_ANYWHERE,
        signal.SIGUSR1: Meaning.SUSPEND,
        signal.SIGUSR2: Meaning.STOP,
    },
}


class BatchJob:
    """The batch job that this process is part of, as its environment tells."""

    def __init__(self, system: str, job_id: str | None, fields: dict[str, str]) -> None:
        self.system = system
        self.job_id = job_id
        self.fields = fields
        """Fields for the status message."""

    @classmethod
    def from_environment(cls) -> BatchJob:
        """Look at the variables that batch systems set."""
        environment = os.environ
        if environment.get("SLURM_JOB_ID"):
            job = environment["SLURM_JOB_ID"]
            return cls("slurm", job, {"cluster_JOB_ID": job})
        if environment.get("SGE_CELL") and environment.get("JOB_ID"):
            job = environment["JOB_ID"]
            cell = environment["SGE_CELL"]
            return cls("sge", job, {"cluster_JOB_ID": job, "cluster_SGE_CELL": cell})
        if environment.get("ZWRAP_LOCAL_JOB_ID"):
            job = environment["ZWRAP_LOCAL_JOB_ID"]
            return cls("local", job, {"cluster_JOB_ID": job})
        return cls("none", None, {})


Handler = Callable[[signal.Signals, Meaning], None]


@contextlib.contextmanager
def watched(system: str, handler: Handler) -> Iterator[None]:
    """Call `handler` for each signal of the table; what was there before is put back."""

    def arrived(number: int, frame: object) -> None:
        del frame
        received = signal.Signals(number)
        if received is signal.SIGUSR2:
            faulthandler.dump_traceback(file=sys.stderr, all_threads=True)
        handler(received, TABLE[system][received])

    before = {number: signal.signal(number, arrived) for number in TABLE[system]}
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)
