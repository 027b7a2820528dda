"""What all command lines share: environments, transport, logging, and errors as one sentence."""

from __future__ import annotations

import argparse
import functools
import logging
import os
import sys
from collections.abc import Callable, Sequence
from typing import Protocol

from zwrap import __version__
from zwrap.configuration.recipe_id import RecipeIDFormatter, annotate_log_records
from zwrap.configuration.site import Configuration
from zwrap.errors import TEMPORARY, ZwrapError
from zwrap.transport.connect import default_transport

Main = Callable[[list[str] | None], int]


class Module(Protocol):
    """A module that carries out one command of `zwrap`."""

    def declare(self, parser: argparse.ArgumentParser) -> None:
        """Declare the command line."""

    def run(self, configuration: Configuration, options: argparse.Namespace) -> int:
        """Carry the command out; the exit status."""


def reported(main: Main) -> Callable[..., int]:
    """Let `main` end every failure in one sentence and its exit status, without a traceback."""

    @functools.wraps(main)
    def wrapper(arguments: list[str] | None = None) -> int:
        quieten_libraries()
        try:
            status = main(arguments)
            sys.stdout.flush()
            return status
        except ZwrapError as error:
            complain(str(error))
            return error.exit_status
        except KeyboardInterrupt:
            complain("interrupted")
            return 130
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        except OSError as error:
            complain(f"{error.filename or 'the system'}: {error.strerror}.")
            return TEMPORARY

    return wrapper


Declare = Callable[[argparse.ArgumentParser], None]
Run = Callable[[Configuration, argparse.Namespace], int]


def program(name: str, purpose: str | None, declare: Declare, run: Run) -> Callable[..., int]:
    """The main function of a command: its own options, then those of every Zocalo command."""

    @reported
    def main(arguments: list[str] | None = None) -> int:
        configuration = configured(arguments)
        parser = argparse.ArgumentParser(prog=name, description=purpose, allow_abbrev=False)
        declare(parser)
        add_common_options(parser, configuration)
        return run(configuration, parsed(parser, arguments, configuration))

    return main


NOISY = {"httpx": logging.WARNING, "pika": logging.CRITICAL, "stomp.py": logging.CRITICAL}
"""Loggers of libraries, with the level that they log from in a command of zwrap.

httpx tells of each request, pika and stomp.py of a lost connection with a dozen errors; zwrap says
in one line what matters.
"""


def quieten_libraries() -> None:
    """Set the levels of `NOISY` loggers that have none yet."""
    for name, level in NOISY.items():
        if logging.getLogger(name).level == logging.NOTSET:
            logging.getLogger(name).setLevel(level)


def complain(text: str) -> None:
    """One line on standard error, with the name of the program."""
    program = os.path.basename(sys.argv[0] or "zwrap")
    sys.stderr.write(f"{program}: {text}\n")


def say(text: str = "") -> None:
    """One line on standard output."""
    sys.stdout.write(f"{text}\n")


def configured(arguments: Sequence[str] | None) -> Configuration:
    """The site configuration with the environments that `-e` names active.

    A tolerant first pass, so that the configuration is there before the full parser is built.
    """
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("-e", "--environment", action="append", default=[])
    known, _ = first.parse_known_args(arguments)
    return Configuration.from_file().activate(known.environment)


def add_common_options(parser: argparse.ArgumentParser, configuration: Configuration) -> None:
    """Options of every Zocalo command."""
    parser.add_argument(
        "-e",
        "--environment",
        action="append",
        default=[],
        metavar="ENV",
        help="activate this environment of the site configuration; known: "
        + (", ".join(sorted(configuration.environments)) or "none"),
    )
    parser.add_argument(
        "-t",
        "--transport",
        metavar="TRN",
        default=default_transport(configuration),
        help="message transport, default %(default)s",
    )
    parser.add_argument("-?", action="help", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    parser.add_argument("--version", action="version", version=f"zwrap {__version__}")
    for kind, names in TRANSPORT_OPTIONS.items():
        group = parser.add_argument_group(f"options for {kind}")
        for name in names:
            group.add_argument(name, metavar=name.rpartition("-")[2].upper())


TRANSPORT_OPTIONS = {
    "PikaTransport": [
        f"--rabbit-{name}" for name in ("host", "port", "user", "pass", "vhost", "conf")
    ],
    "StompTransport": [
        f"--stomp-{name}" for name in ("host", "port", "user", "pass", "prfx", "conf")
    ],
}
"""Options of python-workflows, by the transport that they are for."""


def parsed(
    parser: argparse.ArgumentParser,
    arguments: Sequence[str] | None,
    configuration: Configuration,
) -> argparse.Namespace:
    """The options; those for the chosen transport go into the configuration.

    What has no effect on the chosen transport is said.
    """
    options = parser.parse_args(arguments)
    for kind, names in TRANSPORT_OPTIONS.items():
        for name in names:
            given = getattr(options, name[2:].replace("-", "_"))
            if given is None:
                continue
            if options.transport == kind:
                key = name.rpartition("-")[2]
                configuration.options.setdefault(kind, {})[key] = given
            else:
                complain(f"{name} has no effect: the transport is {options.transport}.")
    return options


def set_up_logging(configuration: Configuration, verbosity: int) -> None:
    """Log to standard error, unless the site says otherwise; each -v raises the verbosity."""
    if configuration.logging is not None:
        configuration.logging.verbosity = verbosity
    else:
        handler = logging.StreamHandler()
        handler.setFormatter(RecipeIDFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        level = logging.DEBUG if verbosity > 1 else logging.INFO
        logging.basicConfig(level=level, handlers=[handler])
    annotate_log_records()
