"""The table of parsers, which make a JSON value of a file and options, and what each option means.

``json``, ``ini``, ``csv``, ``xml``, ``text``, ``regex``, ``table`` and ``lines`` fit many programs;
the others read one format.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Literal

import msgspec

from zwrap.errors import PermanentError, ProgramError, UnknownNameError, short
from zwrap.message.jsontext import finite

Function = Callable[[Path, Mapping[str, object]], object]
"""Function that reads a file with options; it raises ProgramError, which names file and place."""

OptionType = Literal["text", "pattern", "boolean", "integer", "texts", "file"]
"""Type of an option: ``pattern`` is a regular expression, ``texts`` a list, and ``file`` a further
file of the run, which a definition names under `beside`."""


class Option(msgspec.Struct, frozen=True):
    """One option of a parser."""

    meaning: str
    type: OptionType = "text"
    required: bool = False
    choices: tuple[str, ...] = ()
    """Accepted texts; none: any."""


class Parser(msgspec.Struct, frozen=True):
    """One parser: where its function is, which is loaded when it is used, and what it does."""

    function: str
    """Module in this package, a colon, and the name of the function (`Function`)."""
    gives: str
    """The value that it makes of a file."""
    options: Mapping[str, Option] = {}


_KEY = Option("way to a value in it: names, indexes (`0`, `-1`) and `*`, with dots between them")
_ROWS = Option("least number of rows; with fewer the file is refused (1)", "integer")
_REPORT = Option("xia2-report.json or fast_dp-report.json, whose xtriage entries are sent", "file")
_LEAVE_OUT = Option("texts of xtriage entries that are not sent", "texts")
_MTZ = Option("MTZ file of the run, which has cell and space group", "file")
_RESOLUTION = Option(
    "log or JSON of dials.estimate_resolution, whose Mn(I/sig) becomes `res_i_sig_i_2` of a single "
    "scaling",
    "file",
)

PARSERS = {
    "json": Parser(
        "generic:parse_json",
        "the value",
        {
            "key": _KEY,
            "columns": Option("an object of lists becomes the list of its rows", "boolean"),
        },
    ),
    "ini": Parser(
        "sections:parse_ini",
        "section → name → value, in names and values what `=` or `:` separates, and the names "
        "before the first section",
        {"key": _KEY},
    ),
    "csv": Parser(
        "delimited:parse_csv",
        "list of rows, whose columns the first line names",
        {
            "delimiter": Option("character between values (`,`)"),
            "names": Option("names of the columns, if the first line does not hold them", "texts"),
            "rows": _ROWS,
        },
    ),
    "xml": Parser(
        "xmltext:parse_xml",
        "element → value: of several elements of one name a list, attributes as `@name`, text "
        "beside them as `#text`; namespaces are left out",
        {
            "key": _KEY,
            "lists": Option("elements that are lists, also where there is one only", "texts"),
        },
    ),
    "lines": Parser(
        "generic:parse_lines",
        "lines that are not empty",
        {"pattern": Option("only lines in which this is found", "pattern")},
    ),
    "regex": Parser(
        "generic:parse_regex",
        "named groups, each from its last match, numbers as numbers",
        {
            "pattern": Option("regular expression with named groups", "pattern", required=True),
            "all": Option("a list of all matches, each with its groups, in place", "boolean"),
            "rows": Option("with `all`: least number of matches (1)", "integer"),
        },
    ),
    "table": Parser(
        "printed:parse_table",
        "list of rows below a header: of words, of columns between `|`, or below groups of `=` or "
        "`-`; numbers without a mark (`*`, `%`) behind them",
        {
            "header": Option("found in the (first) line of the header", "pattern", required=True),
            "names": Option("names of the columns in place of those in the header", "texts"),
            "which": Option("which of several tables (first)", choices=("first", "last")),
            "rows": _ROWS,
        },
    ),
    "text": Parser("generic:parse_text", "the last 64 KiB"),
    "mtz": Parser(
        "gemmi_library:parse_mtz",
        "`title`, `space_group`, `cell`, `d_max`, `d_min`, `reflections`, `columns`, `datasets` of "
        "an MTZ file (extra `gemmi`)",
    ),
    "cif": Parser(
        "gemmi_library:parse_cif",
        "the values of `values`, and `loops` → list of rows, of a CIF file (extra `gemmi`)",
        {
            "block": Option("name of the data block (the first one)"),
            "values": Option("names of values, such as `_cell.length_a`", "texts"),
            "loops": Option("names of categories or first tags, such as `_reflns_shell`", "texts"),
        },
    ),
    "fast_dp": Parser(
        "fast_dp:ispyb_commands",
        "`ispyb_command_list` from fast_dp.json",
        {"report": _REPORT, "leave_out": _LEAVE_OUT},
    ),
    "ispyb-xml": Parser(
        "ispyb_xml:ispyb_commands",
        "`ispyb_command_list` from ISPyB's XML (xia2, autoPROC, EDNA); a `processingStatus` of 0 "
        "is a failure",
        {
            "scaling": Option("scaling containers that count (all)", choices=("all", "last")),
            "swap_beam": Option("X and Y of the beam are exchanged, as of autoPROC", "boolean"),
            "attachments": Option(
                "the attachments that it names, and that are there, are added", "boolean"
            ),
            "program": Option("name under which a second program is registered for the results"),
            "resolution": _RESOLUTION,
        },
    ),
    "merging-statistics": Parser(
        "merging:merging_statistics",
        "the last summary of merging statistics in a log (xia2, DIALS, xia2.multiplex, aimless, "
        "MRFANA): shell → ISPyB name → value",
        {
            "least": Option(
                "names that must be there (res_lim_high, res_lim_low, completeness)", "texts"
            ),
            "shells": Option(
                "shells that must have them (overall, innerShell, outerShell)", "texts"
            ),
        },
    ),
    "merging-statistics-json": Parser(
        "merging_json:merging_statistics",
        "the same from `merging_stats` in JSON of xia2.multiplex, DIALS and xia2",
        {
            "key": _KEY,
            "below": Option(
                "way to the statistics of one data set, where `key` leads to an object of several: "
                "a list, whose entries have the `name` of the data set, too"
            ),
        },
    ),
    "xia2": Parser(
        "xia2:ispyb_commands",
        "`ispyb_command_list` from xia2.json (of xia2 0.3 from ispyb.xml or xia2.txt)",
        {
            "log": Option("xia2.txt", "file"),
            "report": _REPORT,
            "leave_out": _LEAVE_OUT,
            "resolution": _RESOLUTION,
        },
    ),
    "xia2.multiplex": Parser(
        "multiplex:multiplex_commands",
        "`ispyb_command_list` from xia2.multiplex.json",
        {
            "mtz": _MTZ,
            "dataset": Option("name of the data set (All data)"),
            "leave_out": _LEAVE_OUT,
        },
    ),
    "dials.merge": Parser(
        "multiplex:merge_commands",
        "`ispyb_command_list` from the JSON file of dials.merge, first wavelength",
        {"mtz": _MTZ, "leave_out": _LEAVE_OUT},
    ),
    "gemmi-column-statistics": Parser(
        "gemmi:column_statistics", "`d_min`, `d_max`, `columns` of `gemmi mtz -s`"
    ),
    "gemmi-merging-statistics": Parser(
        "gemmi:merging_statistics", "`overall`, `shells` of `gemmi merge --stats`"
    ),
}
"""Name of a parser to the parser."""


def check_parser(name: str, where: str) -> None:
    """Raise UnknownNameError unless there is a parser of that name."""
    if name not in PARSERS:
        raise UnknownNameError("parser", name, PARSERS, where)


def option_faults(
    name: str, options: Mapping[str, object], beside: Mapping[str, str], where: str
) -> Iterator[PermanentError]:
    """Yield what is wrong with the options of a known parser, and with its further files."""
    declared = PARSERS[name].options
    kind = f"option of parser {name!r}"
    for key, value in options.items():
        option = declared.get(key)
        if option is None:
            yield UnknownNameError(kind, key, declared, where)
        elif option.type == "file":
            yield ProgramError(f"{where}: {kind} {key!r} is a file; give it in 'beside'.")
        elif not fits(option, value):
            wanted = f"one of {', '.join(option.choices)}" if option.choices else option.type
            yield ProgramError(f"{where}: {kind} {key!r} is {short(value)}; {wanted} is expected.")
    files = [key for key, option in declared.items() if option.type == "file"]
    yield from (UnknownNameError(f"file of parser {name!r}", key, files, where)
                for key in beside if key not in files)  # fmt: skip
    for key, option in declared.items():
        if option.required and key not in options:
            yield ProgramError(f"{where}: parser {name!r} needs option {key!r}: {option.meaning}.")


def fits(option: Option, value: object) -> bool:
    """Return True if a value is of an option's type, and among its choices."""
    if option.type == "texts":
        return isinstance(value, list) and all(isinstance(each, str) for each in value)
    if option.type == "boolean":
        return isinstance(value, bool)
    if option.type == "integer":
        return isinstance(value, int) and not isinstance(value, bool) and value >= 0
    return isinstance(value, str) and (not option.choices or value in option.choices)


def parse(name: str, path: Path, options: Mapping[str, object]) -> object:
    """Return the value that a parser makes of a file, with null for NaN and Infinity.

    Raises:
        ProgramError: The file cannot be read, or holds less than the parser must find.
    """
    check_parser(name, str(path))
    module, _, function = PARSERS[name].function.partition(":")
    parser: Function = getattr(importlib.import_module(f"zwrap.program.parsers.{module}"), function)
    try:
        with _without_collector():
            return finite(parser(path, options))
    except OSError as error:
        raise ProgramError(f"{path} cannot be read: {error.strerror}.") from None
    except RecursionError:
        raise ProgramError(f"{path} is nested too deeply.") from None


@contextlib.contextmanager
def _without_collector() -> Iterator[None]:
    """Let Python look for no garbage in the context.

    All that a parser makes of a file is in use until its end: to look at a million values again and
    again, for cycles that there are not, takes half of the time.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
