"""`zwrap exec`: run a command of a plain batch script with heartbeats, without any recipe."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from zwrap.cli.common import complain
from zwrap.configuration.site import Configuration
from zwrap.errors import RequestError
from zwrap.transport.connect import connect
from zwrap.units import seconds


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.usage = "zwrap exec [--name NAME] [--limit TIME] [--grace S] -- COMMAND ..."
    parser.add_argument("--name", help="name in status messages; default: that of the command")
    parser.add_argument("--limit", metavar="TIME", help="time limit, in seconds, or as H:MM:SS")
    parser.add_argument(
        "--grace", type=float, default=10.0, metavar="S",
        help="seconds between SIGTERM and SIGKILL, default %(default)s",
    )  # fmt: skip
    parser.add_argument("argv", nargs=argparse.REMAINDER, metavar="-- COMMAND ...")


def run(configuration: Configuration, options: argparse.Namespace) -> int:
    """Run the command and return its exit status; 128 + number if a signal ended it."""
    from zwrap.wrapper.exec import run_command

    argv = options.argv[1:] if options.argv[:1] == ["--"] else options.argv
    if not argv:
        raise RequestError(
            "There is no command: zwrap exec [--name NAME] [--limit TIME] -- COMMAND"
        )
    limit_s = None if options.limit is None else seconds(options.limit, "--limit")
    if options.grace <= 0:
        raise RequestError(
            f"--grace is {options.grace:g}; a number of seconds above 0 is expected."
        )
    if configuration.is_embedded and not os.environ.get("ZWRAP_SPOOL"):
        complain("neither ZOCALO_CONFIG nor ZWRAP_SPOOL is set: heartbeats stay on this host.")
    ended = run_command(
        argv,
        lambda: connect(configuration, options.transport),
        name=options.name or Path(argv[0]).name,
        limit_s=limit_s,
        grace_s=options.grace,
    )
    if ended.timed_out:
        complain(f"{argv[0]} was ended: it exceeded its time limit of {limit_s} s.")
    elif ended.stopped_by:
        complain(f"{argv[0]} was stopped after {ended.elapsed_s:.0f} s by {ended.stopped_by}.")
    return ended.exit_status or int(ended.timed_out or bool(ended.stopped_by))
