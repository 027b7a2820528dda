"""`zwrap logs`: show what a job and its program wrote, also while it runs."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from zwrap.attempt.ledger.ledger import Ledger
from zwrap.attempt.verdict import VERDICT
from zwrap.cli.common import complain, say, say_file, say_json
from zwrap.cli.joblist import ledger_of
from zwrap.configuration.site import Configuration
from zwrap.errors import RequestError
from zwrap.host.files import last_lines, open_regular
from zwrap.host.printable import INDENT
from zwrap.monitor.finding import one_of
from zwrap.monitor.kept import program_of, submission_of, working_directory
from zwrap.monitor.logs import logs_of
from zwrap.monitor.states import Answers, job_of, may_live
from zwrap.submission.clusters import Clusters

LINES = 50
"""Number of lines of each file that are shown unless another is wanted."""

TAIL_BYTES = 1 << 20
"""Largest part of a file that is looked at for its last lines, and length from which a line that is
followed is shown in parts, in bytes."""

POLL_S = 0.5
"""Poll interval while a file is followed, in seconds."""


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    add = parser.add_argument
    add("JOB", help="job id, beginning of a token, or CLUSTER:JOB")
    add(
        "-n", "--lines", type=int, default=LINES, metavar="N",
        help="the last N lines of each file, default %(default)s",
    )  # fmt: skip
    add("-f", "--follow", action="store_true", help="follow the first file until the job has ended")
    add("--list", action="store_true", help="only the names of the files")
    add("--json", action="store_true", help="with --list: one JSON object a line")
    parser.epilog = (
        "Examples: zwrap logs 17; zwrap logs 17 -f. Exit status: 0; 100: there is no such job, or "
        "it has written no log."
    )


def run(configuration: Configuration, options: argparse.Namespace) -> int:
    """Show the last lines of the logs of a job, or follow the first one."""
    if options.lines < 1:
        raise RequestError(f"-n {options.lines}: a number of lines, from 1, is expected.")
    with ledger_of(configuration) as ledger:
        attempt = one_of(ledger, options.JOB)
        job = job_of(attempt, Answers(Clusters(configuration), [attempt], complain))
        files = logs_of(attempt, program_of(job, submission_of(attempt, ledger)))
        if not files:
            raise RequestError(
                f"No log of {options.JOB} is in {working_directory(attempt)} or "
                f"{attempt.job_directory}; the job is {job.state}."
            )
        if options.list or options.json:
            _list(files, as_json=options.json)
        elif options.follow:
            _follow(files[0], options.lines, ledger, attempt.token)
        else:
            for file in files:
                say(f"==> {file} <==")
                found = last_lines(file, options.lines, TAIL_BYTES, follow=False)
                say_file("\n".join(f"{INDENT}{line}" for line in found))  # none is like a heading
    return 0


def _list(files: Sequence[Path], *, as_json: bool) -> None:
    """Print the names of files."""
    for file in files:
        if as_json:
            found = file.lstat()
            told = {"file": str(file), "bytes": found.st_size, "mtime": found.st_mtime}
            say_json(told, indent=-1)
        else:
            say(str(file))


def _follow(file: Path, lines: int, ledger: Ledger, token: str) -> None:
    """Print the last lines of a file, and what is added to it, until its job has ended."""
    descriptor, place = open_regular(file)
    try:
        begin = os.pread(descriptor, TAIL_BYTES, max(0, place - TAIL_BYTES))
        shown, newline, pending = begin.rpartition(b"\n")
        if newline:
            say_file(b"\n".join(shown.split(b"\n")[-lines:]).decode(errors="replace"))
        while True:
            ended = _has_ended(ledger, token)  # before the rest is read
            while piece := os.pread(descriptor, TAIL_BYTES, place):
                place += len(piece)
                whole, newline, pending = (pending + piece).rpartition(b"\n")
                if newline:
                    say_file(whole.decode(errors="replace"))
                if len(pending) >= TAIL_BYTES:  # it may never end, and would be copied each time
                    say_file(pending.decode(errors="replace"))
                    pending = b""
            if ended:
                break
            sys.stdout.flush()
            time.sleep(POLL_S)
        if pending:
            say_file(pending.decode(errors="replace"))
    finally:
        os.close(descriptor)


def _has_ended(ledger: Ledger, token: str) -> bool:
    """Return True if a job has left a verdict, or its end is known; no cluster is asked."""
    attempt = ledger.get(token)
    if attempt is None or attempt.outcome is not None or not may_live(attempt):
        return True
    return Path(attempt.job_directory, VERDICT).exists()
