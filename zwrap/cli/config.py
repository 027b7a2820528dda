"""`zwrap config`: show the site configuration, with the origin of each value."""

from __future__ import annotations

import argparse

from zwrap.cli.common import complain, say
from zwrap.configuration.site import Configuration


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    actions.add_parser("show", help="print the merged configuration; secrets are hidden")


def run(configuration: Configuration, options: argparse.Namespace) -> int:
    """Print the merged configuration."""
    del options
    from zwrap.configuration import display

    if configuration.is_embedded:
        complain("ZOCALO_CONFIG is not set: the embedded default holds.")
        return 0
    for line in display.lines(configuration):
        say(line)
    return 0
