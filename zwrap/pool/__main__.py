"""Command line of the built-in batch system: submit, list, cancel, run."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import msgspec

from zwrap.errors import TEMPORARY, ZwrapError
from zwrap.host.given import read_given
from zwrap.host.paths import made_private, state_directory
from zwrap.host.printable import printable
from zwrap.pool.jobs import FILE_BYTES, RUNNING, WAITING, LocalBatch, LocalJob
from zwrap.pool.runner import run, start_runner


def _parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(prog="python -m zwrap.pool", description=__doc__)
    parser.add_argument(
        "--directory", type=Path, default=state_directory() / "localbatch",
        help="directory of the jobs; default: localbatch in the state directory",
    )  # fmt: skip
    commands = parser.add_subparsers(dest="command", required=True)
    submit = commands.add_parser("submit", help="take a script as a job")
    submit.add_argument("--name", required=True)
    submit.add_argument("--chdir", required=True, help="working directory, absolute")
    submit.add_argument("--output", required=True, help="file for standard output")
    submit.add_argument("--error", required=True, help="file for standard error")
    submit.add_argument("--time", type=int, help="time limit in seconds")
    submit.add_argument("--cpus", type=int, default=1)
    submit.add_argument(
        "--below", action="append", default=[], metavar="DIR",
        help="directory out of which no link may lead when the other paths are opened; repeatable",
    )  # fmt: skip
    submit.add_argument("script", type=Path, help="file with the job script")
    listing = commands.add_parser("list", help="print jobs as JSON")
    listing.add_argument("--ended", action="store_true", help="print ended jobs, too")
    listing.add_argument("--name", help="only jobs of this name")
    cancel = commands.add_parser("cancel", help="end jobs")
    cancel.add_argument("job_id", nargs="+", type=int)
    commands.add_parser("run", help="start waiting jobs until none is left")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Carry out one command; return 0, or the exit status of the error."""
    options = _parser().parse_args(arguments)
    directory = made_private(options.directory.absolute())
    try:
        _carry_out(options, directory)
    except ZwrapError as error:
        sys.stderr.write(printable(f"localbatch: {error}") + "\n")
        return error.exit_status
    except OSError as error:
        sentence = f"localbatch: {error.filename or directory}: {error.strerror}"
        sys.stderr.write(printable(sentence) + "\n")
        return TEMPORARY
    return 0


def _carry_out(options: argparse.Namespace, directory: Path) -> None:
    """Carry out the command that was chosen."""
    batch = LocalBatch(directory)
    if options.command == "submit":
        job = LocalJob(
            name=options.name,
            working_directory=options.chdir,
            output=options.output,
            error=options.error,
            walltime_s=options.time,
            cpus=options.cpus,
            below=options.below,
        )
        sys.stdout.write(f"{batch.submit(job, read_given(options.script, FILE_BYTES))}\n")
        start_runner(directory)
    elif options.command == "list":
        jobs = batch.list(ended=options.ended, name=options.name)
        sys.stdout.write(printable(msgspec.json.encode(jobs).decode()) + "\n")
        if batch.jobs(WAITING) or batch.jobs(RUNNING):
            start_runner(directory)  # replaces a runner that was killed
    elif options.command == "cancel":
        for identity in options.job_id:
            batch.cancel(identity)
    else:
        run(directory)


if __name__ == "__main__":
    sys.exit(main())
