"""Input that a command line names: a file, which may be a pipe or a link, or standard input.

Each is read up to a limit: some devices and pipes have no end.
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from zwrap.host.files import UnfitFileError
from zwrap.host.printable import shown_path

PIECE_BYTES = 1 << 20
"""Size of a piece that is read at once, in bytes."""

TEXT_BYTES = 32 << 20
"""Largest size of a file with settings, in bytes."""


def read_given(path: Path, limit: int) -> bytes:
    """Return the content of a file that a person names.

    Raises:
        UnfitFileError: It has more than `limit` bytes.
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        return read_stream(file, limit, shown_path(path))


def read_text_given(path: Path) -> str:
    """Return the text of a file with settings.

    Raises:
        UnfitFileError: It has more than `TEXT_BYTES` bytes.
        OSError: It cannot be read.
        UnicodeDecodeError: It is not UTF-8.
    """
    return read_given(path, TEXT_BYTES).decode("utf-8")


def read_stream(stream: BinaryIO, limit: int, name: str) -> bytes:
    """Return what a stream holds, up to its end. `name`: a name of it for people.

    Raises:
        UnfitFileError: It holds more than `limit` bytes.
        OSError: It cannot be read.
    """
    pieces, left = [], limit + 1
    while left and (piece := stream.read(min(left, PIECE_BYTES))):
        pieces.append(piece)
        left -= len(piece)
    if not left:
        raise UnfitFileError(f"{name} has more than {limit} bytes, the most that is read there.")
    return b"".join(pieces)
