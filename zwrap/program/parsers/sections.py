"""Files with sections and values (INI), such as those that Python's configparser writes."""

from __future__ import annotations

import re
from pathlib import Path

from zwrap.errors import ProgramError
from zwrap.program.parsers.generic import Options, at_key, read, value

_SEPARATOR = re.compile("[=:]")


def parse_ini(path: Path, options: Options) -> object:
    """Return the values by section and name; names before the first section come before it.

    Lines that begin with ``#`` or ``;`` are remarks, and indented ones go on with a value. Of a
    value that is given twice the last one counts.
    """
    found: dict[str, object] = {}
    section: dict[str, object] = found
    parts: list[str] = []
    name = ""

    def finish() -> None:
        if name:
            text = "\n".join(parts).strip()
            section[name] = value(text) if text else None

    for line in read(path).removeprefix("\ufeff").splitlines():
        text = line.strip()
        if not text or text[0] in "#;":
            continue
        if name and line[0] in " \t":
            parts.append(text)
            continue
        finish()
        name = ""
        if text[0] == "[" and "]" in text:
            title = text[1 : text.rindex("]")]
            known = found.get(title)
            section = known if isinstance(known, dict) else {}
            found[title] = section
        elif separator := _SEPARATOR.search(text):
            name, parts = text[: separator.start()].strip(), [text[separator.end() :].strip()]
    finish()
    if not found:
        raise ProgramError(f"{path} holds no section, and no value with a name.")
    return at_key(found, options, path)
