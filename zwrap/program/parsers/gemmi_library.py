"""Crystallographic files, read by the gemmi library, which is the extra ``zwrap[gemmi]``."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from zwrap.errors import ProgramError
from zwrap.program.parsers.generic import MOST_ROWS, Options, Value, content, number, texts

if TYPE_CHECKING:
    from gemmi import cif

_FAULTS = (ValueError, RuntimeError, IndexError, TypeError, OverflowError)
"""Errors of the library for a file that it cannot read."""


def _check_library(path: Path) -> None:
    """Raise ProgramError, which says how to install the library, if it is not there."""
    try:
        import gemmi  # noqa: F401
    except ImportError:
        raise ProgramError(
            f"{path} needs the gemmi library, which is not installed beside zwrap. Install it with "
            "the extra: pip install 'zwrap[gemmi]'."
        ) from None


def parse_mtz(path: Path, options: Options) -> object:
    """Return title, space group, cell (Å, degrees), limits of resolution (Å) and columns."""
    del options
    _check_library(path)
    import gemmi

    content(path)  # refuses what is no file, and what is too large
    try:
        mtz = gemmi.read_mtz_file(str(path))
        group = mtz.spacegroup
        return {
            "title": mtz.title,
            "space_group": group.hm if group else None,
            "cell": list(mtz.cell.parameters),
            "d_max": mtz.resolution_low(),
            "d_min": mtz.resolution_high(),
            "reflections": mtz.nreflections,
            "columns": [
                {"label": each.label, "type": each.type, "dataset": each.dataset_id}
                for each in mtz.columns
            ],
            "datasets": [
                {
                    "id": each.id,
                    "project": each.project_name,
                    "crystal": each.crystal_name,
                    "name": each.dataset_name,
                    "wavelength": each.wavelength,
                    "cell": list(each.cell.parameters),
                }
                for each in mtz.datasets
            ],
        }
    except _FAULTS as error:
        raise ProgramError(f"{path} is not readable as an MTZ file: {error}.") from None


def parse_cif(path: Path, options: Options) -> object:
    """Return values by name, and loops by name: lists of rows whose columns have the tags' names.

    A name of a loop is a category (``_reflns_shell``), or any tag of the loop. Raises ProgramError
    if one of them is missing, except where the value itself is ``?`` or ``.``, which is None.
    """
    _check_library(path)
    import gemmi

    try:
        document = gemmi.cif.read_string(content(path).decode("utf-8", "replace"))
        block = _block(document, options.get("block"), path)
        raw = {tag: block.find_value(tag) for tag in texts(options, "values")}
        loops = {name: list(_loop(block, name)) for name in texts(options, "loops")}
    except _FAULTS as error:
        raise ProgramError(f"{path} is not readable as a CIF file: {error}.") from None
    missing = [name for name, found in {**raw, **loops}.items() if not found]
    if missing:
        raise ProgramError(f"{path}, block {block.name!r}, has no {', '.join(missing)[:300]}.")
    values = {tag: _value(found) for tag, found in raw.items()}
    return {"block": block.name, "values": values, "loops": loops}


def _block(document: cif.Document, name: object, path: Path) -> cif.Block:
    """Return the data block of a name, or the first one; ProgramError if it is not there."""
    names = [each.name for each in document]
    if not names or name not in (None, *names):
        known = ", ".join(names[:20]) or "none"
        raise ProgramError(f"{path} has no data block {name or 'at all'!r}. Known: {known}.")
    return document[names.index(name) if name is not None else 0]


def _loop(block: cif.Block, name: str) -> Iterator[dict[str, Value]]:
    """Yield the rows of a category, or of the loop with a tag; a category without a loop is one."""
    table = block.find_mmcif_category(name if name.endswith(".") else f"{name}.")
    tags = list(table.tags) if table else []
    if not tags and (column := block.find_loop(name)) and (loop := column.get_loop()):
        tags = list(loop.tags)
        table = block.find(tags)
    prefix = f"{name.rstrip('.')}."
    names = [tag.removeprefix(prefix) for tag in tags]
    for row in itertools.islice(table, MOST_ROWS) if tags else ():
        yield dict(zip(names, (_value(each) for each in row), strict=True))


def _value(text: str) -> Value:
    """Return the value in a CIF: None for ``?`` and ``.``, a number without its uncertainty."""
    from gemmi import cif

    if cif.is_null(text):
        return None
    if text[:1] in "'\";":
        return str(cif.as_string(text))
    bare = number(text.partition("(")[0]) if text.endswith(")") else text
    return number(text) if isinstance(bare, str) else bare
