"""The table of parsers, which make a JSON value of a file and options.

``json``, ``text``, ``regex``, ``table`` and ``lines`` fit many programs; the others read one
format.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path

from zwrap.errors import ProgramError, UnknownNameError
from zwrap.message.jsontext import finite

Parser = Callable[[Path, Mapping[str, object]], object]
"""Function that reads a file with options; it raises ProgramError, which names file and place."""

PARSERS = {
    "json": "generic:parse_json",
    "lines": "generic:parse_lines",
    "regex": "generic:parse_regex",
    "table": "generic:parse_table",
    "text": "generic:parse_text",
    "fast_dp": "fast_dp:ispyb_commands",
    "ispyb-xml": "ispyb_xml:ispyb_commands",
    "merging-statistics": "merging:merging_statistics",
    "xia2": "xia2:ispyb_commands",
    "gemmi-column-statistics": "gemmi:column_statistics",
    "gemmi-merging-statistics": "gemmi:merging_statistics",
}
"""Name of a parser to its module and function, which are loaded when the parser is used."""


def check_parser(name: str, where: str) -> None:
    """Raise UnknownNameError unless there is a parser of that name."""
    if name not in PARSERS:
        raise UnknownNameError("parser", name, PARSERS, where)


def parse(name: str, path: Path, options: Mapping[str, object]) -> object:
    """Return the value that a parser makes of a file, with null for NaN and Infinity.

    Raises:
        ProgramError: The file cannot be read.
    """
    check_parser(name, str(path))
    module, _, function = PARSERS[name].partition(":")
    parser: Parser = getattr(importlib.import_module(f"zwrap.program.parsers.{module}"), function)
    try:
        return finite(parser(path, options))
    except OSError as error:
        raise ProgramError(f"{path} cannot be read: {error.strerror}.") from None
    except RecursionError:
        raise ProgramError(f"{path} is nested too deeply.") from None
