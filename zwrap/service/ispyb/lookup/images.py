"""Names of images, from directory, template and numbers of a data collection."""

from __future__ import annotations

import contextlib
import os.path
import re
from collections.abc import Mapping

from zwrap.service.ispyb.lookup.found import Value, number, text, whole


def pattern(template: str) -> str | None:
    """Return a template of file names with its ``####`` as in ``%04d``; None for an empty one."""
    if "#" not in template:
        return template or None
    escaped = template.replace("%", "%%")
    return re.sub("#+", lambda found: f"%0{len(found[0])}d", escaped, count=1)


def image(row: Mapping[str, Value], wanted: int | None) -> str | None:
    """Return the path of an image of a data collection.

    A template without a place for a number is that of a file with all images. None if the row names
    no file, or if its number is not known.
    """
    name, directory = pattern(text(row, "fileTemplate")), text(row, "imageDirectory")
    if name is None or not directory:
        return None
    with contextlib.suppress(TypeError, ValueError):  # it has no place for a number
        numbered = name % (0 if wanted is None else wanted)
        if wanted is None:
            return None
        name = numbered
    return os.path.join(directory, name)


def first_and_last(row: Mapping[str, Value]) -> tuple[int | None, int | None]:
    """Return the numbers of the first and of the last image; None for what is not known."""
    first, count = whole(row, "startImageNumber"), whole(row, "numberOfImages")
    return first, None if first is None or count is None else first + count - 1


def sweep(row: Mapping[str, Value], first: int | None, last: int | None) -> str | None:
    """Return images as xia2 and others take them, ``/path/x_0001.cbf:1:900``.

    None if the row, or a number, says too little.
    """
    if first is None or last is None:
        return None
    path = image(row, first)
    return path and f"{path}:{first}:{last}"


def is_rotation(row: Mapping[str, Value]) -> bool | None:
    """Return True for a rotation scan; None if the row does not say."""
    overlap, width = number(row, "overlap"), number(row, "axisRange")
    return None if overlap is None or width is None else overlap == 0 and width > 0
