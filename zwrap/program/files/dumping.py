"""Texts of files that hold values: JSON, YAML, phil, INI, and KEY=VALUE as in XDS.INP.

No value can end where it stands, and add a key, a comment or a section: what the format can quote
is quoted, the rest is refused. Keys may come from a message, too, so they are checked as well.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Literal

from zwrap.errors import ProgramError, short
from zwrap.message.jsontext import pretty

Format = Literal["json", "yaml", "phil", "ini", "xds"]

LARGEST_FILE = 32 << 20
"""Size of the largest file that is written, in bytes."""

_BREAKS = re.compile("[\x00-\x08\x0a-\x1f\x7f\x85\u2028\u2029]")
"""Characters that end a line for some reader, and others that no text file holds."""

_OTHER_BREAKS = re.compile("[\r\x85\u2028\u2029]")
"""Line breaks other than that of Unix, for which a reader of YAML may put that one."""

_PLAIN = re.compile(r"[A-Za-z0-9_.+:/,@%~-]+")
"""Words that phil takes as they are."""

_PHIL_KEY = re.compile(r"(?!include$)[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*")
_INI_KEY = re.compile(r"(?![#;\[])[^\s=:](?:[^=:\t]*[^\s=:])?")
_XDS_KEY = re.compile(r"[A-Za-z][A-Za-z0-9_.'()/-]*")


def dump(form: Format, values: object, where: str) -> str:
    """Return values as the text of a file.

    Args:
        form: Format of the file.
        values: Values, by key.
        where: Place of the values, for sentences.

    Raises:
        ProgramError: A value, or a key, cannot be written in this format; the text names it.
    """
    try:
        text = _DUMPS[form](values, where)
        size = len(text.encode("utf-8", "surrogateescape"))
    except (RecursionError, ValueError) as error:  # lone surrogates, thousands of digits
        raise ProgramError(f"{where}: the values cannot be written: {error}.") from None
    if size > LARGEST_FILE:
        raise ProgramError(f"{where}: the file has more than {LARGEST_FILE} bytes.")
    return text


def _json(values: object, _where: str) -> str:
    """Return values as JSON; NaN and Infinity, which it lacks, are null."""
    return f"{pretty(values).rstrip()}\n"


def _yaml(values: object, _where: str) -> str:
    """Return values as YAML, in their order."""
    import yaml

    class Dumper(yaml.SafeDumper):
        """A dumper that writes each value where it stands."""

        def ignore_aliases(self, _data: object) -> bool:
            """Return True: a value that is there twice is written twice."""
            return True

    def text_node(dumper: Dumper, value: str) -> yaml.ScalarNode:
        """Return a text; one with line breaks of Unicode in quotes, where they are escaped."""
        style = '"' if _OTHER_BREAKS.search(value) else None
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)

    Dumper.add_representer(str, text_node)
    text: str = yaml.dump(values, Dumper=Dumper, sort_keys=False, allow_unicode=True)
    return text


def _phil(values: object, where: str) -> str:
    """Return values as phil; objects become scopes."""
    return "".join(f"{line}\n" for line in _scope(_mapping(values, where), where, 0))


def _scope(values: Mapping[str, object], where: str, depth: int) -> Iterator[str]:
    """Yield the lines of a scope."""
    margin = "  " * depth
    for key, value in values.items():
        place = _checked(key, _PHIL_KEY, where)
        scopes = value if isinstance(value, list) and value else [value]
        if all(isinstance(each, Mapping) for each in scopes):
            for each in scopes:
                yield f"{margin}{key} {{"
                yield from _scope(_mapping(each, place), place, depth + 1)
                yield f"{margin}}}"
            continue
        for words in _lines(value):
            yield f"{margin}{key} = {' '.join(phil_word(word, place) for word in words)}"


def phil_word(value: object, where: str) -> str:
    """Return a value as a word of phil, in single quotes unless it is plain.

    In those no variable is filled in, as ``$HOME`` from the program's environment.
    """
    text = _text(value, where, none="None")
    if _PLAIN.fullmatch(text):
        return text
    quoted = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{quoted}'"


def _ini(values: object, where: str) -> str:
    """Return values as INI; objects become sections, which follow the values outside of them."""
    given = _mapping(values, where)
    plain = {key: value for key, value in given.items() if not isinstance(value, Mapping)}
    sections = {key: value for key, value in given.items() if isinstance(value, Mapping)}
    blocks = [_section(plain, where)] if plain else []
    for name, section in sections.items():
        if not name.strip() or _BREAKS.search(name) or "]" in name:
            raise ProgramError(f"{where}: {short(name)} cannot be the name of a section in INI.")
        blocks.append(f"[{name}]\n{_section(section, f'{where}, section {name!r}')}")
    return "\n".join(blocks)


def _section(values: Mapping[str, object], where: str) -> str:
    """Return the lines of a section of INI."""
    lines = []
    for key, value in values.items():
        place = _checked(key, _INI_KEY, where)
        text = _text(value, place, none="")
        if re.search(r"(^|\s)[#;]", text):
            raise _refused(place, text, "'#' or ';' begins a comment in INI")
        if re.search(r"%\(|\$\{", text):
            raise _refused(place, text, "readers of INI put other values in place of '%(' and '${'")
        lines.append(f"{key} = {text}".rstrip() + "\n")
    return "".join(lines)


def _xds(values: object, where: str) -> str:
    """Return values as XDS.INP has them: ``KEY= VALUE``, a line each."""
    lines = []
    for key, value in _mapping(values, where).items():
        place = _checked(key, _XDS_KEY, where)
        for words in _lines(value):
            text = " ".join(_xds_word(word, place) for word in words)
            lines.append(f"{key}= {text}\n")
    return "".join(lines)


def _xds_word(value: object, where: str) -> str:
    """Return a value of XDS.INP, in which ``=`` follows a key, and ``!`` begins a comment."""
    if isinstance(value, bool):
        return str(value).upper()
    text = _text(value, where, none="")
    if re.search("[=!]", text):
        raise _refused(where, text, "'!' begins a comment in XDS.INP, and '=' makes a key")
    return text


# -- what the formats share ------------------------------------------------------------------------


def _lines(value: object) -> list[list[object]]:
    """Return the words of each line of a value: of a list one line, of a list of lists one each.

    An empty list has no line.
    """
    if not isinstance(value, list):
        return [[value]]
    lines = value if all(isinstance(each, list) for each in value) else [value]
    return [line for line in lines if line]


def _mapping(values: object, where: str) -> Mapping[str, object]:
    """Return values by key; ProgramError for what has no keys."""
    if not isinstance(values, Mapping):
        raise ProgramError(
            f"{where} is {short(values)}; values by key are expected in this format."
        )
    return {str(key): value for key, value in values.items()}


def _checked(key: str, form: re.Pattern[str], where: str) -> str:
    """Return the place of a key; ProgramError if it cannot be one in the format."""
    if _BREAKS.search(key) or not form.fullmatch(key):
        raise ProgramError(f"{where}: {short(key)} cannot be a key in this format.")
    return f"{where}, key {key!r}"


def _text(value: object, where: str, *, none: str) -> str:
    """Return a single value as text; ProgramError for a list, an object, or a line break."""
    if isinstance(value, (list, Mapping)) or (
        isinstance(value, float) and not math.isfinite(value)
    ):
        raise ProgramError(f"{where} is {short(value)}, which this format cannot hold.")
    text = none if value is None else str(value)
    if _BREAKS.search(text):
        raise _refused(where, text, "a line break, or another control character, would end it")
    return text


def _refused(where: str, text: str, why: str) -> ProgramError:
    """Return the error about a value that could be read as more than a value."""
    return ProgramError(f"{where} is {short(text)}: {why}; a value without it is expected.")


_DUMPS: Mapping[Format, Callable[[object, str], str]] = {
    "json": _json,
    "yaml": _yaml,
    "phil": _phil,
    "ini": _ini,
    "xds": _xds,
}
