"""`zwrap program new`: draft a definition from the directory of a finished run."""

from __future__ import annotations

import argparse
from pathlib import Path

from zwrap.cli.common import say, say_file
from zwrap.configuration.site import Configuration
from zwrap.errors import RequestError, UnknownNameError
from zwrap.program.checks.draft import draft
from zwrap.program.checks.report import files_below
from zwrap.program.choice import Choice
from zwrap.program.reading import parse_definition, read_definition


def run(configuration: Configuration, options: argparse.Namespace) -> int:
    """Print a draft, or write it into a file that does not exist yet."""
    directory: Path = options.directory
    if not directory.is_dir():
        raise RequestError(f"{directory} is not a directory; one of a finished run is expected.")
    parse_definition({"command": ["x"]}, "the command line", options.name)  # checks the name
    directory = directory.absolute()
    files = [str(file.relative_to(directory)) for file in files_below(directory)]
    text = draft(options.name, directory, files)
    if not options.write:
        say_file(text.rstrip("\n"))
        return 0
    _check_hidden(options.name)
    site = configuration.site.program_directory
    place = site or Path.cwd()
    file = place / f"{options.name}.yaml"
    try:
        with file.open("x", encoding="utf-8") as stream:
            stream.write(text)
    except FileExistsError:
        raise RequestError(f"{file} exists, and is left as it is; give another name.") from None
    except OSError as error:
        raise RequestError(f"{file} cannot be written: {error.strerror}.") from None
    read_definition(file)
    live = f"; jobs of the site run it as --wrap {options.name} from now on" if site else ""
    say(f"{file} written{live}. Next: zwrap program test {file} {directory}")
    return 0


def _check_hidden(name: str) -> None:
    """Raise RequestError if a definition of that name would run in place of another part."""
    try:
        choice = Choice.of(name)
    except UnknownNameError:
        return
    raise RequestError(
        f"A definition {name!r} would run in place of what is installed under that name: {choice}. "
        "Give another name."
    )
