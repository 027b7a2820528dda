"""`zwrap recipe`: check or draw recipes."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path

from zwrap.cli.common import complain, say, say_file
from zwrap.configuration.site import Configuration
from zwrap.errors import ZwrapError
from zwrap.limits import Limits
from zwrap.recipe.graph import Recipe


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    check = actions.add_parser("check", help="validate recipe files, and the jobs of their steps")
    check.add_argument("file", nargs="+", type=Path)
    show = actions.add_parser("show", help="draw a recipe")
    show.add_argument("file", type=Path)
    show.add_argument("--dot", action="store_true", help="in the DOT language of Graphviz")


def run(configuration: Configuration, options: argparse.Namespace) -> int:
    """Check recipe files, or draw one."""
    limits = configuration.site.limits
    if options.action == "show":
        return _show(options, limits)
    from zwrap.cli.recipesteps import check_files

    return check_files(configuration, options.file)


def checked(checks: Iterator[tuple[str, Callable[[], object]]]) -> int:
    """Run checks and report each; return 0 if all hold, else the worst exit status."""
    status = count = 0
    for what, check in checks:
        count += 1
        try:
            check()
        except ZwrapError as error:
            complain(str(error))
            status = max(status, error.exit_status)
        else:
            say(f"good: {what}")
    say(f"{count} checked.")
    return status


def _show(options: argparse.Namespace, limits: Limits) -> int:
    """Draw a recipe as a tree, or in the DOT language."""
    from zwrap.cli.output import show_tree
    from zwrap.recipe import drawing

    recipe = Recipe.from_file(options.file, limits)
    if options.dot:
        say_file(drawing.dot(recipe))
    else:
        show_tree(drawing.tree(recipe))
    return 0
