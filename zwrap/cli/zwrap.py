"""`zwrap`: check and show recipes, site, jobs and queues; run a command; handle messages."""

from __future__ import annotations

import argparse
import gc
import importlib
import sys
from collections.abc import Sequence

from zwrap.cli.common import (
    Module,
    Parser,
    add_common_options,
    reported,
    set_up_logging,
    settle,
)
from zwrap.configuration.site import Configuration
from zwrap.errors import ConfigurationError, UnknownNameError

COMMANDS = {
    "recipe": ("recipes", "check or draw recipes"),
    "check": ("check", "validate the site configuration and all that it refers to"),
    "config": ("config", "show the site configuration and where each value comes from"),
    "render": ("render", "show the job script of a recipe step; submit nothing"),
    "exec": ("exec", "run a command with heartbeats and a time limit, without a recipe"),
    "jobs": ("jobs", "list the jobs that were submitted, and how they ended"),
    "events": ("events", "show what happened to a job, to a run of a recipe, or to a request"),
    "ledger": ("ledger", "check, copy or upgrade the ledger, the record of all jobs"),
    "cancel": ("cancel", "end jobs"),
    "logs": ("joblogs", "show or follow what a job and its program wrote"),
    "consumers": ("consumers", "tell a monitor whether enough receivers read each queue"),
    "pipe": ("pipe", "move messages from a directory or queue to another as they come"),
    "publish": ("publish", "send a message"),
    "peek": ("peek", "show messages that wait, or dead letters, and leave them there"),
    "resubmit": ("resubmit", "submit the step of a job again, with other resources if wanted"),
    "clusters": ("clusters", "show whether each cluster answers, and how many jobs it has"),
    "purge": ("purge", "delete all messages in a queue"),
    "drain": ("drain", "move all messages from one queue to another"),
    "process_queue": ("process_queue", "run functions that are workers of queues"),
    "program": ("program", "list, show, run, test or draft definitions of programs"),
    "replay": ("replay", "send the messages that a finished run would have sent"),
}
"""Command to the module that carries it out, and its purpose."""


MIXED = ("publish", "pipe", "jobs", "cancel", "resubmit")
"""Commands with arguments that may be missing, which may stand behind options all the same."""


def _module(command: str) -> Module:
    """Load the module of a command."""
    module: Module = importlib.import_module(f"zwrap.cli.{COMMANDS[command][0]}")
    return module


class _Command(Parser):
    """The parser of one command, which loads the command's module when it is chosen."""

    command = ""
    """Name of the command; empty once its options are declared."""

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Declare the options of the command, and parse them."""
        command, self.command = self.command, ""
        if command:
            _module(command).declare(self)
        if command in MIXED:
            return self.parse_known_intermixed_args(args, namespace)
        return super().parse_known_args(args, namespace)


class _Zwrap(Parser):
    """The parser of `zwrap`, which names the nearest command where one is not known."""

    def _check_value(self, action: argparse.Action, value: object) -> None:
        """Raise argparse.ArgumentError if a value is none of those that there may be."""
        if action.dest == "command" and value not in COMMANDS:
            raise argparse.ArgumentError(None, str(UnknownNameError("command", value, COMMANDS)))
        super()._check_value(action, value)


def _parser(configuration: Configuration) -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = _Zwrap(prog="zwrap", description=__doc__)
    parser.epilog = (
        "Every other command of this installation is there by its name, too, whoever has the file "
        "of that name: zwrap zocalo.go ..."
    )
    add_common_options(parser, configuration)
    commands = parser.add_subparsers(
        dest="command", metavar="COMMAND", required=True, parser_class=_Command
    )
    for command, (_, purpose) in COMMANDS.items():
        commands.add_parser(command, help=purpose, description=purpose).command = command
    return parser


@reported
def main(arguments: list[str] | None = None) -> int:
    """Carry out one command."""
    configuration = Configuration.from_file()
    options = _parser(configuration).parse_args(arguments)
    module = _module(options.command)
    if not gc.isenabled():  # as `zwrap.cli.start` leaves it: a sixth of the time to load is saved
        gc.freeze()
        gc.enable()
    try:
        settle(options, configuration)
    except ConfigurationError as error:
        if options.command == "check":  # which tells what is wrong besides
            module.tell_faults(configuration, error)  # type: ignore[attr-defined]
        raise
    set_up_logging(configuration, 0)
    return module.run(configuration, options)


if __name__ == "__main__":
    sys.exit(main())
