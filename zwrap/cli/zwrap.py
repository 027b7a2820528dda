"""`zwrap`: look at recipes, site, templates and programs; run a command; handle queues."""

from __future__ import annotations

import argparse
import importlib
import sys

from zwrap.cli.common import (
    Module,
    add_common_options,
    configured,
    parsed,
    reported,
    set_up_logging,
)
from zwrap.configuration.site import Configuration

COMMANDS = {
    "recipe": ("recipes", "check or draw recipes"),
    "check": ("check", "validate the site configuration and all that it refers to"),
    "config": ("config", "show the site configuration and where each value comes from"),
    "render": ("render", "show the job script of a recipe step; submit nothing"),
    "exec": ("exec", "run a command with heartbeats and a time limit, without a recipe"),
    "jobs": ("jobs", "list the jobs that were submitted, and what became of them"),
    "cancel": ("jobs", "end jobs"),
    "consumers": ("consumers", "say whether enough receivers read each queue, for a monitor"),
    "pipe": ("pipe", "move messages from a directory or queue to another as they come"),
    "publish": ("queues", "send a message"),
    "peek": ("queues", "show messages that wait, or dead letters, and leave them there"),
    "resubmit": ("resubmit", "submit the step of a job again, with other resources if wanted"),
    "clusters": ("clusters", "say how each cluster is, and how many jobs it has"),
    "purge": ("queues", "delete what waits in a queue"),
    "drain": ("queues", "move all messages from one queue to another"),
    "process_queue": ("process_queue", "run functions that are workers of queues"),
    "replay": ("replay", "send what a finished directory would have sent"),
}
"""Command to the module that carries it out, and what it does."""


def _module(command: str) -> Module:
    module: Module = importlib.import_module(f"zwrap.cli.{COMMANDS[command][0]}")
    return module


def _parser(configuration: Configuration, arguments: list[str]) -> argparse.ArgumentParser:
    """The parser; of the commands only the one that is wanted is loaded."""
    parser = argparse.ArgumentParser(prog="zwrap", description=__doc__)
    add_common_options(parser, configuration)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    wanted = next((argument for argument in arguments if argument in COMMANDS), None)
    for command, (_, purpose) in COMMANDS.items():
        subparser = commands.add_parser(command, help=purpose, description=purpose)
        if command == wanted:
            _module(command).declare(subparser)
    return parser


@reported
def main(arguments: list[str] | None = None) -> int:
    """Carry out one command."""
    configuration = configured(arguments)
    given = sys.argv[1:] if arguments is None else arguments
    options = parsed(_parser(configuration, given), given, configuration)
    set_up_logging(configuration, 0)
    return _module(options.command).run(configuration, options)


if __name__ == "__main__":
    sys.exit(main())
