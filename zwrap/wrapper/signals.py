"""What a signal means: one table, batch system and signal to stop, warn, suspend or ignore."""

from __future__ import annotations

import contextlib
import enum
import faulthandler
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
