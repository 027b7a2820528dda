"""Parts that all command lines share: environments, transport, logging, errors in one sentence."""

from __future__ import annotations

import argparse
import functools
import logging
import os
import sys
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from zwrap import __version__
from zwrap.configuration.recipe_id import RecipeIDFormatter, annotate_log_records
from zwrap.configuration.site import Configuration
from zwrap.errors import TEMPORARY, RequestError, ZwrapError
from zwrap.transport.connect import EMBEDDED, default_transport
from zwrap.transport.options import BrokerOptions, TransportChoice

Main = Callable[[list[str] | None], int]


class Module(Protocol):
    """A module that carries out one command of `zwrap`."""

    def declare(self, parser: argparse.ArgumentParser) -> None:
        """Declare the command line."""

    def run(self, configuration: Configuration, options: argparse.Namespace) -> int:
        """Carry out the command and return its exit status."""


def reported(main: Main) -> Callable[..., int]:
    """Return `main`, with every failure reported as one sentence and an exit status."""

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
    """Return the main function of a command: its own options, then those of every command."""

    @reported
    def main(arguments: list[str] | None = None) -> int:
        configuration = Configuration.from_file()
        parser = argparse.ArgumentParser(prog=name, description=purpose, allow_abbrev=False)
        declare(parser)
        add_common_options(parser, configuration)
        return run(configuration, parsed(parser, arguments, configuration))

    return main


NOISY = {"httpx": logging.WARNING, "pika": logging.CRITICAL, "stomp.py": logging.CRITICAL}
"""Logger of a library to its level in commands of zwrap.

httpx logs each request; pika and stomp.py log a dozen errors for a lost connection, of which zwrap
itself reports the essence in one line.
"""


def quieten_libraries() -> None:
    """Set the levels of `NOISY` loggers that have none yet."""
    for name, level in NOISY.items():
        if logging.getLogger(name).level == logging.NOTSET:
            logging.getLogger(name).setLevel(level)


def complain(text: str) -> None:
    """Write one line to standard error, with the name of the program."""
    program = os.path.basename(sys.argv[0] or "zwrap")
    sys.stderr.write(f"{program}: {text}\n")


def say(text: str = "") -> None:
    """Write one line to standard output."""
    sys.stdout.write(f"{text}\n")


def key_value(given: str, option: str, form: str = "KEY=VALUE") -> tuple[str, str]:
    """Return key and value of an option's argument; the value may hold further '='.

    Raises:
        RequestError: There is no '=', or no key before it.
    """
    key, equals, value = given.partition("=")
    if not equals or not key:
        raise RequestError(f"{option} {given!r} is not usable; {form} is expected.")
    return key, value


def add_common_options(parser: argparse.ArgumentParser, configuration: Configuration) -> None:
    """Declare the options that every command has."""
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
        help=f"message transport; default: that of the site configuration, else {EMBEDDED}",
    )
    parser.add_argument("-?", action="help", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    parser.add_argument("--version", action="version", version=f"zwrap {__version__}")
    for kind, fields in BROKER_OPTIONS.items():
        group = parser.add_argument_group(f"options for {kind}")
        for option in fields:
            group.add_argument(option, metavar=option.rpartition("-")[2].upper())


BROKER_OPTIONS = {
    "PikaTransport": {
        "--rabbit-host": "host",
        "--rabbit-port": "port",
        "--rabbit-user": "username",
        "--rabbit-pass": "password",
        "--rabbit-vhost": "vhost",
        "--rabbit-conf": "conf",
    },
    "StompTransport": {
        "--stomp-host": "host",
        "--stomp-port": "port",
        "--stomp-user": "username",
        "--stomp-pass": "password",
        "--stomp-prfx": "prefix",
        "--stomp-conf": "conf",
    },
}
"""Name of a transport to the options that python-workflows has for it, and their fields in
`BrokerOptions`."""


def parsed(
    parser: argparse.ArgumentParser,
    arguments: Sequence[str] | None,
    configuration: Configuration,
) -> argparse.Namespace:
    """Parse the command line, and activate the environments that it names.

    In the result `transport` is a `TransportChoice`. Options without effect on that transport are
    reported on standard error.
    """
    options = parser.parse_args(arguments)
    configuration.activate(options.environment)
    name = options.transport or default_transport(configuration)
    broker = None
    for kind, fields in BROKER_OPTIONS.items():
        values = {option: getattr(options, option[2:].replace("-", "_")) for option in fields}
        given = {option: value for option, value in values.items() if value is not None}
        if name != kind:
            for option in given:
                complain(f"{option} has no effect: the transport is {name}.")
        elif given:
            broker = BrokerOptions(**{fields[option]: value for option, value in given.items()})
    options.transport = TransportChoice(name, broker)
    return options


def transport_arguments(chosen: TransportChoice) -> list[str]:
    """Return the arguments with which a child process chooses the same transport."""
    fields = BROKER_OPTIONS.get(chosen.name, {})
    given = {} if chosen.broker is None else msgspec.structs.asdict(chosen.broker)
    options = [f"{option}={given[field]}" for option, field in fields.items() if given.get(field)]
    return ["-t", chosen.name, *options]


def set_up_logging(configuration: Configuration, verbosity: int) -> None:
    """Log as the site configures, else to standard error; each -v raises the verbosity."""
    if configuration.log_settings is not None:
        configuration.log_settings.verbosity = verbosity
    else:
        handler = logging.StreamHandler()
        handler.setFormatter(RecipeIDFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        level = logging.DEBUG if verbosity > 1 else logging.INFO
        logging.basicConfig(level=level, handlers=[handler])
    annotate_log_records()
