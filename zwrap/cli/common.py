"""Parts that all command lines share: environments, transport, logging, errors in one sentence."""

from __future__ import annotations

import argparse
import functools
import io
import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import NoReturn, Protocol

import msgspec

from zwrap import __version__
from zwrap.configuration.log_lines import make_logs_printable
from zwrap.configuration.recipe_id import RecipeIDFormatter, annotate_log_records
from zwrap.configuration.site import Configuration
from zwrap.errors import TEMPORARY, ConfigurationError, FaultsError, ZwrapError
from zwrap.host.hiding import shown, without_secrets
from zwrap.host.printable import printable, printable_lines
from zwrap.message.jsontext import pretty
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
        _set_up_streams()
        try:
            status = main(arguments)
            sys.stdout.flush()
            return status
        except ZwrapError as error:
            complain_of(error)
            return error.exit_status
        except KeyboardInterrupt:
            complain("interrupted")
            return 130
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        except MemoryError:
            complain("There is not enough memory on this host.")
            return TEMPORARY
        except OSError as error:
            complain(f"{error.filename or 'the system'}: {error.strerror}.")
            return TEMPORARY

    return wrapper


def _set_up_streams() -> None:
    """Let nothing raw reach the terminal, and no character fail that its encoding lacks."""
    quieten_libraries()
    make_logs_printable()
    sys.excepthook = _unforeseen
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _unforeseen(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Write the traceback of an exception that nothing handled to standard error."""
    text = "".join(traceback.format_exception(kind, error, trace)).rstrip("\n")
    sys.stderr.write(printable_lines(without_secrets(text)) + "\n")


Declare = Callable[[argparse.ArgumentParser], None]
Run = Callable[[Configuration, argparse.Namespace], int]


class Parser(argparse.ArgumentParser):
    """Parser of a command line, which shows nothing raw of what was given.

    It looks for the width of the terminal, which takes 3 ms, only to print: argparse makes a
    formatter for each option that is declared, to check it.
    """

    def __init__(self, prog: str | None = None, description: str | None = None) -> None:
        checking = functools.partial(argparse.HelpFormatter, width=80)
        super().__init__(
            prog=prog, description=description, allow_abbrev=False, formatter_class=checking
        )

    def format_help(self) -> str:
        """Return the help, as wide as the terminal."""
        self.formatter_class = argparse.HelpFormatter
        return super().format_help()

    def format_usage(self) -> str:
        """Return the usage, as wide as the terminal."""
        self.formatter_class = argparse.HelpFormatter
        return super().format_usage()

    def error(self, message: str) -> NoReturn:
        """Print usage and an error, and exit with status 2."""
        super().error(shown(message))


def program(name: str, purpose: str | None, declare: Declare, run: Run) -> Callable[..., int]:
    """Return the main function of a command: its own options, then those of every command."""

    @reported
    def main(arguments: list[str] | None = None) -> int:
        configuration = Configuration.from_file()
        parser = Parser(name, purpose)
        declare(parser)
        add_common_options(parser, configuration)
        return run(configuration, parsed(parser, arguments, configuration))

    return main


def user_name() -> str:
    """Return the name of this user; in a container that knows none, the number."""
    import getpass  # for the few commands that tell it

    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


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
    remark(f"{program}: {text}")


def complain_of(error: ZwrapError) -> None:
    """Write an error to standard error, one line for each fault that it is about."""
    for fault in error.faults if isinstance(error, FaultsError) else (error,):
        complain(str(fault))


def remark(text: str) -> None:
    """Write one line to standard error."""
    sys.stderr.write(f"{shown(text)}\n")


def say(text: str = "") -> None:
    """Write one line to standard output."""
    sys.stdout.write(f"{shown(text)}\n")


def say_values(values: Iterable[object]) -> None:
    """Write one line to standard output with tabs between values; on a terminal with spaces."""
    line = "\t".join("" if value is None else shown(str(value)) for value in values)
    sys.stdout.write(f"{line.expandtabs() if sys.stdout.isatty() else line}\n")


def say_json(value: object, *, indent: int = 2, before: str = "") -> None:
    """Write a value to standard output as JSON, secrets included, behind the text `before`.

    NaN and Infinity, which JSON lacks, are null.

    `indent`: 0 for one line, -1 for one line without blanks.
    """
    lines = pretty(value, indent).split("\n")
    sys.stdout.write(shown(before) + "\n".join(map(printable, lines)) + "\n")


def say_file(text: str) -> None:
    """Write the text of a file to standard output: to a terminal in printable lines, else as is."""
    if sys.stdout.isatty():
        text = "\n".join(printable(line.expandtabs()) for line in text.split("\n"))
    sys.stdout.write(f"{text}\n")


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
    """Parse the command line, and settle what it chooses, as `settle` does."""
    options = parser.parse_args(arguments)
    settle(options, configuration)
    return options


def settle(options: argparse.Namespace, configuration: Configuration) -> None:
    """Activate the environments that parsed options name, and choose the transport.

    Afterwards `transport` is a `TransportChoice`; one without a name if the site file leaves
    a doubt about it, which keeps nobody from a command that needs none. Options without effect on
    that transport are reported on standard error.
    """
    configuration.activate(options.environment)
    if not hasattr(options, "given_transport"):  # else a site file is read again
        options.given_transport = options.transport
    name = options.given_transport or _configured(configuration)
    broker = None
    for kind, fields in BROKER_OPTIONS.items():
        values = {option: getattr(options, option[2:].replace("-", "_")) for option in fields}
        given = {option: value for option, value in values.items() if value is not None}
        if name != kind:
            for option in given if name else ():
                complain(f"{option} has no effect: the transport is {name}.")
        elif given:
            broker = BrokerOptions(**{fields[option]: value for option, value in given.items()})
    options.transport = TransportChoice(name, broker)


def _configured(configuration: Configuration) -> str:
    """Return the name of the configured transport; empty if the site file leaves a doubt."""
    try:
        return default_transport(configuration)
    except ConfigurationError:
        return ""


def transport_arguments(chosen: TransportChoice) -> list[str]:
    """Return the arguments with which a child process chooses the same transport."""
    if not chosen.name:
        return []
    fields = BROKER_OPTIONS.get(chosen.name, {})
    given = {} if chosen.broker is None else msgspec.structs.asdict(chosen.broker)
    options = [f"{option}={given[field]}" for option, field in fields.items() if given.get(field)]
    return ["-t", chosen.name, *options]


def set_up_logging(configuration: Configuration, verbosity: int) -> None:
    """Log as the site configures, else to standard error; each -v raises the verbosity.

    Plugin `graylog` gets the same beside standard error.
    """
    if configuration.log_settings is not None:
        configuration.log_settings.verbosity = verbosity
    else:
        handler = logging.StreamHandler()
        handler.setFormatter(RecipeIDFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        level = logging.DEBUG if verbosity > 1 else logging.INFO
        handler.setLevel(level)  # also of loggers that tell more, such as those of hosted services
        root = logging.getLogger()
        if all(each is configuration.graylog for each in root.handlers):
            root.addHandler(handler)
            root.setLevel(level)
    annotate_log_records()
    make_logs_printable()
