"""`zwrap program`: list, show, run, test and draft definitions of programs."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Sequence
from pathlib import Path

from zwrap.cli.common import Module, Parser
from zwrap.configuration.site import Configuration

ACTIONS = {
    "list": "programlist",
    "show": "programshow",
    "schema": "programshow",
    "run": "programtrial",
    "test": "programtest",
    "new": "programdraft",
    "complete": "programcomplete",
}
"""Action to the module that carries it out."""


class _Action(Parser):
    """The parser of one action."""

    mixes = False
    """True if arguments may also stand behind options; False while they are told from each other,
    for which the method is called again."""

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse arguments and options."""
        mixes, self.mixes = self.mixes, False
        if mixes:
            return self.parse_known_intermixed_args(args, namespace)
        return super().parse_known_args(args, namespace)


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    actions = parser.add_subparsers(
        dest="action", metavar="ACTION", required=True, parser_class=_Action
    )
    listing = actions.add_parser("list", help="list all programs with a definition")
    listing.add_argument("--json", action="store_true", help="one object a line")
    show = actions.add_parser("show", help="show what a program takes, leaves and sends")
    _add_name(show)
    show.add_argument("--json", action="store_true", help="the whole definition")
    schema = actions.add_parser("schema", help="print the JSON Schema of a program's parameters")
    _add_name(schema)
    run = actions.add_parser("run", help="run a program here, without broker and site")
    _add_name(run)
    _add_values(run, "parameters", "KEY=VALUE")
    run.add_argument("--directory", type=Path, metavar="DIR", help="working directory; default: .")
    run.add_argument(
        "--dry-run", action="store_true", help="show what would be run and written; do neither"
    )
    test = actions.add_parser("test", help="judge the files of a finished run; run nothing")
    _add_name(test)
    _add_values(
        test,
        "given",
        "DIR KEY=VALUE",
        "directory of the run, then its parameters; without DIR: the tests of the definition",
    )
    test.add_argument(
        "--exit-status", type=int, default=0, metavar="N",
        help="exit status of the program, or minus the number of the signal that ended it; "
        "default: %(default)s",
    )  # fmt: skip
    new = actions.add_parser("new", help="draft a definition from the files of a finished run")
    new.add_argument("name", metavar="NAME", help="name of the program")
    new.add_argument(
        "--from", type=Path, required=True, dest="directory", metavar="DIR",
        help="directory of the run",
    )  # fmt: skip
    new.add_argument(
        "--write", action="store_true",
        help="write NAME.yaml into the site's program directory, else into this one",
    )  # fmt: skip

    complete = actions.add_parser(
        "complete", help="complete the last word; without words: print what makes bash do so"
    )
    complete.add_argument(
        "words", nargs="*", metavar="WORD", help="words from the program's name on"
    )


def _add_name(parser: argparse.ArgumentParser) -> None:
    """Declare the name of a program."""
    parser.add_argument("name", metavar="NAME", help="name of the program, or file (x.yaml)")


def _add_values(parser: _Action, name: str, metavar: str, purpose: str = "job parameters") -> None:
    """Declare job parameters, and what goes with them."""
    parser.mixes = True
    parser.add_argument(
        name, nargs="*", metavar=metavar,
        help=f"{purpose}; a value is JSON (5, true, [1, 2]) or text, and a key given twice is a "
        "list",
    )  # fmt: skip
    parser.add_argument("--payload", metavar="JSON", help="message for the step")
    parser.add_argument("--json", action="store_true", help="show the judgement as JSON")


def run(configuration: Configuration, options: argparse.Namespace) -> int:
    """Carry out the action, and return its exit status."""
    module: Module = importlib.import_module(f"zwrap.cli.{ACTIONS[options.action]}")
    return module.run(configuration, options)
