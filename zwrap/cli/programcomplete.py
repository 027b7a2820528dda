"""`zwrap program complete`: what a shell may put in place of the last word of a command line."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import zwrap_templates

from zwrap.cli.common import say, say_file
from zwrap.cli.programs import named
from zwrap.configuration.site import Configuration
from zwrap.errors import PermanentError
from zwrap.program.checks.forms import completions
from zwrap.program.reading import program_names

SCRIPT = Path(zwrap_templates.__file__).with_name("complete.sh")
"""Shell text that makes bash ask this command."""


def run(configuration: Configuration, options: argparse.Namespace) -> int:
    """Print completions, one a line, or without words the shell text."""
    if not options.words:
        say_file(SCRIPT.read_text().rstrip())
    for word in _completions(options.words, configuration.site.program_directory):
        say(word)
    return 0


def _completions(words: Sequence[str], programs: Path | None) -> list[str]:
    """Return completions of the last of the words behind the action; the first names a program."""
    if len(words) < 2:
        return [name for word in words for name in program_names(programs) if name.startswith(word)]
    name, *given, last = words
    try:
        return completions(named(name, programs), last, given)
    except PermanentError:  # nobody reads what is wrong in the middle of a command line
        return []
