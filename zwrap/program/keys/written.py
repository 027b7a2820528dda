"""Files that are written before the start of a program: the keys of `write`, and their checks."""

# Annotations are not postponed: msgspec would compile each when a job starts.
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from zwrap.errors import ProgramError, UnknownNameError
from zwrap.host.files import UnfitFileError, read_regular
from zwrap.program.keys.marks import FILLED, INPUT_NAME

OWN = ".zwrap"
"""Directory in working directories, with attempts and what zwrap knows of files: no file or
directory that a definition names is in one."""

LARGEST_TEMPLATE = 1 << 20
"""Size of the largest template, in bytes."""

Place = Callable[..., str]
"""Function from keys of a definition, from the outermost, to file and line."""


class Written(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A file that is written before the start: from a template, or with values in a format.

    It lies below the directory of the run, in a directory that is made if it is missing, and
    through no link.
    """

    file: Annotated[str, FILLED]
    """Name of the file; ``{name}`` stands for an input, and without its value there is no file."""
    format: Literal["json", "yaml", "phil", "ini", "xds"] | None = None
    """Format in which `values` are written: JSON; YAML; phil, with an object as a scope; INI, with
    an object as a section; ``KEY= VALUE`` as in XDS.INP."""
    values: Annotated[dict[str, object] | list[object] | str, FILLED] = {}
    """Values by key. ``{name}`` stands for an input; alone, it and ``{$REPLACE:name}`` keep a
    number a number. A key whose optional input has no value is left out. In phil and XDS.INP a list
    is a line of several words, and a list of lists is a line for each; there, and in INI, only
    ``{$REPLACE:name}`` stands for an object or a list of lists."""
    template: str | None = None
    """Template of the file (Jinja2, in a sandbox), with the inputs, `payload` and `environment` (of
    the recipe) as values. A value that is null, a list or an object cannot be printed, and neither
    can one with a line break, unless filter ``lines`` allows it."""
    template_file: str | None = None
    """File with the template, beside the definition or in a directory there."""
    overwrite: bool = False
    """True if a file of this name is replaced although zwrap did not write it, or somebody has
    changed it since."""
    only_if: Annotated[str | None, INPUT_NAME] = None
    """Name of an input; if that is false, or has no value, the file is not written."""
    before: str | None = None
    """Name of the further command (`then`) before which the file is written; None: before the
    first."""


def check_written(
    written: Sequence[Written], inputs: Mapping[str, object], source: str, at: Place
) -> None:
    """Raise ProgramError for faults of `write` that the types of its keys do not exclude."""
    for number, each in enumerate(written):
        place = f"{at('write', str(number))}, file {each.file!r}"
        for fault in _faults(each):
            raise ProgramError(f"{place}: {fault}.")
        if each.only_if is not None and each.only_if not in inputs:
            raise UnknownNameError("input", each.only_if, inputs, f"{place}, key 'only_if'")
        if each.format is None:
            from zwrap.program.files.templating import check_template

            where = at("write", str(number), "template_file")
            check_template(template_of(each, source, where), place)


def check_placed(names: Iterable[str], key: str, at: Place) -> None:
    """Raise ProgramError for a name under `link` or `copy` that leads out of the run's directory.

    `key`: which of the two. A name with a placeholder is looked at when it is filled in.
    """
    for name in names:
        if "{" not in name:
            check_name(f"{name}x" if name.endswith("/") else name, f"{at(key, name)}, key {key!r}")


def check_name(name: str, place: str) -> Path:
    """Return the name of a file as a path; ProgramError unless it is below the run's directory."""
    path = Path(name)
    if not _is_below(path) or "\0" in name:
        raise ProgramError(
            f"{place}: the name {name!r} leads out of the directory of the run, or to zwrap's own "
            "files; a relative path without '..' and '.zwrap' is expected."
        )
    return path


def _is_below(path: Path) -> bool:
    """Return True for a path below the directory of the run, and not to files of zwrap's own."""
    return bool(path.name) and not path.is_absolute() and not {"..", OWN} & {*path.parts}


def template_of(written: Written, source: str, where: str = "") -> str:
    """Return the text of a template.

    Args:
        written: The file for which it is.
        source: File of the definition, beside which the template lies.
        where: Place of the template's name, with which messages begin; empty: that file.

    Raises:
        ProgramError: The template cannot be read.
    """
    if written.template is not None:
        return written.template
    where = f"{where or source}, file {written.file!r}"
    name = Path(written.template_file or "")
    definition = Path(source)
    if name.is_absolute() or ".." in name.parts or not definition.is_file():
        raise ProgramError(
            f"{where}: the template {str(name)!r} is not beside the "
            "definition; a relative path without '..' is expected, and a definition in a file."
        )
    path = definition.parent / name
    try:
        return read_regular(path, LARGEST_TEMPLATE, follow=True).decode()
    except OSError as error:
        raise ProgramError(
            f"{where}: the template {path} cannot be read: {error.strerror}."
        ) from None
    except (UnfitFileError, UnicodeDecodeError) as error:
        raise ProgramError(f"{where}: template {path}: {error}.") from None


def _faults(written: Written) -> Iterator[str]:
    """Yield a clause for each fault of one file."""
    ways = [written.format, written.template, written.template_file]
    if sum(way is not None for way in ways) != 1:
        yield "one of 'format' (with 'values'), 'template' and 'template_file' is expected"
    if bool(written.values) != (written.format is not None):
        yield "'format' and 'values' belong together; both are expected, or none"
    if not _is_below(Path(written.file)):
        yield "the name of a file below the directory of the run is expected"
    if written.template is not None and len(written.template) > LARGEST_TEMPLATE:
        yield f"the template has more than {LARGEST_TEMPLATE} characters"
