"""``zocalo.configuration.argparse``: the environments that a command line selects."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from typing import NoReturn

__all__ = ["get_specified_environments"]


class _Tolerant(argparse.ArgumentParser):
    """A parser that raises ValueError instead of ending the program."""

    def error(self, message: str) -> NoReturn:
        """Raise ValueError."""
        raise ValueError(message)


def get_specified_environments(
    argv: Sequence[str] | None = None,
    *,
    arguments: Iterable[str] = ("-e", "--environment"),
) -> list[str]:
    """Return the environments that a command line selects; none if it cannot be understood.

    It looks at the option for environments only, so that they can decide which other options a
    program has.

    Args:
        argv: Arguments of the program; None: those of this process.
        arguments: Names of the option.
    """
    parser = _Tolerant(add_help=False)
    parser.add_argument(*arguments, dest="environments", action="append", default=[])
    try:
        options, _ = parser.parse_known_args(argv)
    except ValueError:
        return []
    return [str(each) for each in options.environments]
