"""The files that a program gets before it starts: their names and contents, links and copies."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePath
from typing import NamedTuple

from zwrap.errors import ProgramError, short
from zwrap.program.definition import Definition
from zwrap.program.filling import Values
from zwrap.program.keys.inputs import is_given
from zwrap.program.keys.written import Written, check_name, template_of
from zwrap.recipe.substitution import REPLACE, Filling

_OF_LINES = ("phil", "ini", "xds")
"""Formats in which an object makes keys, and a list of lists makes lines."""

_NAME = re.compile(r"\{([\w-]+)\}")


class NewFile(NamedTuple):
    """A file to write."""

    name: Path
    """Name below the directory of the run."""
    content: str
    overwrite: bool
    """True if any file of that name is replaced."""


class Placed(NamedTuple):
    """A file that the program gets under another name, as a link or a copy."""

    name: Path
    """Name below the directory of the run."""
    source: str
    """The file; a relative name starts from the directory of the run."""
    given: bool
    """False if the definition alone says which file it is; True if a value of the step is part of
    its name, or it is in the directory of the run, where others may put a link."""


def new_files(
    definition: Definition, known: Mapping[str, object], before: str | None = None
) -> list[NewFile]:
    """Return the files to write, with their contents.

    Args:
        definition: The definition.
        known: Values by name.
        before: Name of the further command that starts next; None: the first command does.

    Raises:
        ProgramError: A file cannot be written so; the text names it.
        RecipeError: More is filled in than the limit.
    """
    files = []
    for written in definition.write:
        if written.before != before or not _is_wanted(written, known):
            continue
        where = f"{definition.source}, key 'write', file {written.file!r}"
        values = FileValues(definition, known, is_flat=written.format in _OF_LINES)
        if name := values.one(written.file, where):
            content = _content(written, values, known, definition.source, where)
            files.append(NewFile(check_name(name, where), content, written.overwrite))
    return files


def placed_files(definition: Definition, known: Mapping[str, object], key: str) -> Iterator[Placed]:
    """Yield the files to link, or to copy: `key` says which.

    Raises:
        ProgramError: A file cannot have such a name.
        RecipeError: More is filled in than the limit.
    """
    names = definition.link if key == "link" else definition.copy
    values = FileValues(definition, known)
    for given, source in names.items():
        where = f"{definition.source}, key {key!r}, {given!r}"
        name = values.one(given, where)
        found = [str(each) for each in values.entries(source) if is_given(each)]
        if not name or not found:
            continue
        if len(found) > 1 and not name.endswith("/"):
            raise ProgramError(
                f"{where}: {len(found)} files cannot have one name; for a list that of a "
                "directory, which ends in '/', is expected."
            )
        new = [f"{name}{PurePath(each).name}" if name.endswith("/") else name for each in found]
        if len(set(new)) < len(new):
            raise ProgramError(f"{where}: several of the files have the same name in {name!r}.")
        chosen = "{" in source or not PurePath(source).is_absolute()
        for path, each in zip(new, found, strict=True):
            yield Placed(check_name(path, where), each, chosen)


def _is_wanted(written: Written, known: Mapping[str, object]) -> bool:
    """Return True unless the input on which a file depends is false or has no value."""
    value = known.get(written.only_if) if written.only_if else True
    return is_given(value) and value is not False


def _content(
    written: Written, values: FileValues, known: Mapping[str, object], source: str, where: str
) -> str:
    """Return the content of a file."""
    if written.format is not None:
        from zwrap.program.files.dumping import dump

        return dump(written.format, values.value(written.values), where)
    from zwrap.program.files.templating import rendered

    return rendered(template_of(written, source), known, where)


class _Absent:
    """The value of an optional input that has none."""


_ABSENT = _Absent()


class FileValues:
    """The filling in of values of files, in which numbers and lists stay what they are.

    Args:
        definition: The definition.
        known: Values by name.
        is_flat: True if ``{name}`` stands for a single value or a list of them, and neither for an
            object nor for lists in a list, which only ``{$REPLACE:name}`` asks for.
    """

    def __init__(
        self, definition: Definition, known: Mapping[str, object], *, is_flat: bool = False
    ) -> None:
        self._is_flat = is_flat
        self._source = definition.source
        self._inputs = definition.inputs
        self._known = known
        self._texts = Values(known, definition.inputs, definition.source)
        self._filling = Filling(known)

    def one(self, text: str, where: str) -> str:
        """Return a text that stands for one file; empty if its input has no value.

        Raises ProgramError, which begins with `where`, for a list.
        """
        found = self.entries(text)
        if len(found) > 1 or any(isinstance(each, (list, Mapping)) for each in found):
            raise ProgramError(f"{where}: {short(found)} is no name of one file.")
        return str(found[0]) if found else ""

    def value(self, value: object) -> object:
        """Return a copy of a value with each text in it filled in, without what has no value."""
        found = self._filled(value)
        return {} if isinstance(found, _Absent) else found

    def entries(self, text: str) -> list[object]:
        """Return a text filled in: none without the value of its input, several for a list."""
        found = self._text(text)
        if isinstance(found, _Absent):
            return []
        return found if isinstance(found, list) else [found]

    def _filled(self, value: object) -> object:
        """Return a copy of a value filled in, or `_ABSENT`."""
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, Mapping):
            pairs = [(str(self._filling.key(key)), self._filled(value[key])) for key in value]
            return {key: each for key, each in pairs if not isinstance(each, _Absent)}
        if isinstance(value, list):
            found = map(self._filled, value)
            return [each for each in found if not isinstance(each, _Absent)]
        return value

    def _text(self, text: str) -> object:
        """Return what a text stands for, or `_ABSENT` if it asks for an input without a value."""
        plain, replaced = _NAME.fullmatch(text), REPLACE.fullmatch(text)
        if plain and plain[1] in self._known:
            if self._is_flat:
                self._check_flat(plain[1])
            replaced = REPLACE.fullmatch(f"{{$REPLACE:{plain[1]}}}")
        if replaced:
            value = self._filling.value(replaced[0])
            return value if is_given(value) or replaced[1] not in self._inputs else _ABSENT
        return self._several(text)

    def _several(self, text: str) -> object:
        """Return a text with values in it, a list of it for a list, or `_ABSENT`."""
        found = self._texts.each(text)
        if any(isinstance(self._known.get(name), list) for name in _NAME.findall(text)):
            return found or _ABSENT
        return found[0] if found else _ABSENT

    def _check_flat(self, name: str) -> None:
        """Raise ProgramError for a value that would make keys, or lines, of its own."""
        value = self._known[name]
        if any(isinstance(each, (list, Mapping)) for each in _entries(value)):
            raise ProgramError(
                f"{self._source}, key 'write': {name!r} is {short(value)}; a single value, or a "
                f"list of them, is expected for {{{name}}}, because another one would make keys "
                f"or lines of its own ({{$REPLACE:{name}}} asks for any value)."
            )


def _entries(value: object) -> Iterable[object]:
    """Return the entries of a list; of another value itself."""
    return value if isinstance(value, list) else [value]
