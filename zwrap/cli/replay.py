"""`zwrap replay`: send the messages that the run in a finished directory would have sent."""

from __future__ import annotations

import argparse
from pathlib import Path

from zwrap.cli.common import complain, say, say_json
from zwrap.configuration.site import Configuration
from zwrap.message.content import RECIPE_HEADER, Outgoing
from zwrap.transport.connect import connect


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("directory", type=Path, help="working directory of the step, or an attempt")
    parser.add_argument("--wrap", metavar="NAME", help="program; default: the one that ran")
    parser.add_argument(
        "--recipewrapper", type=Path, metavar="FILE",
        help="recipe step; default: the one in the directory",
    )  # fmt: skip
    parser.add_argument(
        "--exit-status", type=int, metavar="N",
        help="exit status of the program; default: the recorded one, else it is not judged",
    )  # fmt: skip
    parser.add_argument("--dry-run", action="store_true", help="show the messages; send nothing")


def run(configuration: Configuration, options: argparse.Namespace) -> int:
    """Judge the run and send its messages; return 0 for a success, 1 for a failure."""
    from zwrap.wrapper.replay import replay

    found = replay(
        options.directory,
        wrapper=options.wrap,
        envelope_file=options.recipewrapper,
        exit_status=options.exit_status,
        programs=configuration.site.program_directory,
        copy=not options.dry_run,
        limits=configuration.site.limits,
        allowed=configuration.site.allowed,
    )
    for failure in found.failures:
        complain(failure)
    if options.dry_run:
        for message in found.messages:
            _show(message)
        say(f"Dry run: {len(found.messages)} messages were not sent.")
    else:
        with connect(configuration, options.transport) as transport:
            transport.commit(found.messages)
            transport.flush()
        say(f"{len(found.messages)} messages of {found.program} ({found.envelope}) sent.")
    return 1 if found.failures else 0


def _show(message: Outgoing) -> None:
    """Print destination and payload of a message in one line."""
    content = message.message
    if isinstance(content, dict) and RECIPE_HEADER in message.headers:
        content = content.get("payload")
    say_json(content, indent=0, before=f"{message.destination}: ")
