"""Cell and space group in the header of an MTZ file. Source: CCP4, MTZ format."""

from __future__ import annotations

import re
import struct
from pathlib import Path
from typing import NamedTuple

from zwrap.errors import ProgramError
from zwrap.program.parsers.generic import _opened

_RECORD_BYTES = 80

_LONGEST_HEADER_BYTES = 8 * 1024 * 1024
"""Size of the largest header that is read: one of 100000 records, as batches make it long."""

_SYMBOLS = (
    "P 1|P 1 2 1|P 1 21 1|C 1 2 1|P 2 2 2|P 2 2 21|P 21 21 2|P 21 21 21|C 2 2 21|C 2 2 2|F 2 2 2|"
    "I 2 2 2|I 21 21 21|P 4|P 41|P 42|P 43|I 4|I 41|P 4 2 2|P 4 21 2|P 41 2 2|P 41 21 2|P 42 2 2|"
    "P 42 21 2|P 43 2 2|P 43 21 2|I 4 2 2|I 41 2 2|P 3|P 31|P 32|R 3|H 3|P 3 1 2|P 3 2 1|P 31 1 2|"
    "P 31 2 1|P 32 1 2|P 32 2 1|R 3 2|H 3 2|P 6|P 61|P 65|P 62|P 64|P 63|P 6 2 2|P 61 2 2|P 65 2 2|"
    "P 62 2 2|P 64 2 2|P 63 2 2|P 2 3|F 2 3|I 2 3|P 21 3|I 21 3|P 4 3 2|P 42 3 2|F 4 3 2|F 41 3 2|"
    "I 4 3 2|P 43 3 2|P 41 3 2|I 41 3 2"
)
"""Symbols of the space groups of chiral molecules, with blanks, which some programs leave out."""


class MtzHeader(NamedTuple):
    """Values that hold for all reflections of a file."""

    spacegroup: str
    """Hermann-Mauguin symbol, with blanks if it is one of a chiral molecule."""
    cell: list[float]
    """Edges in Å, angles in degrees."""


def read_mtz_header(path: Path) -> MtzHeader:
    """Return the header of an MTZ file; ProgramError if there is none, or not all of it."""
    lines = list(_records(path))
    cell = next((line.split()[1:] for line in lines if line.startswith("CELL")), [])
    symmetry = next((line for line in lines if line.startswith("SYMINF")), "")
    symbol = re.search(r"'([^']+)'", symmetry)
    try:
        values = [float(value) for value in cell]
    except ValueError:
        values = []
    if len(values) != 6 or not symbol:
        raise ProgramError(f"{path} has no cell or no space group in its MTZ header.")
    return MtzHeader(_with_blanks(symbol[1]), values)


def _records(path: Path) -> list[str]:
    """Return the records of the header, up to its end; the reflections are not read."""
    with _opened(path) as file:
        begin = file.read(20)
        if begin[:4] != b"MTZ " or len(begin) < 20:
            raise ProgramError(f"{path} is not an MTZ file.")
        order = ">" if begin[8] >> 4 == 1 else "<"
        word: int = struct.unpack(f"{order}i", begin[4:8])[0]
        if word == -1:  # of a file whose header begins beyond what 32 bits can say
            word = struct.unpack(f"{order}q", begin[12:20])[0]
        file.seek(4 * (max(1, word) - 1))
        data = file.read(_LONGEST_HEADER_BYTES)
    texts = [
        data[place : place + _RECORD_BYTES].decode("latin-1")
        for place in range(0, len(data), _RECORD_BYTES)
    ]
    ends = [number for number, text in enumerate(texts) if text.split() == ["END"]]
    if not ends:
        raise ProgramError(f"{path} ends before its MTZ header does.")
    return texts[: ends[0]]


def _with_blanks(symbol: str) -> str:
    """Return a symbol with blanks between its parts, if it is one of a chiral molecule."""
    compact = symbol.replace(" ", "")
    known = {each.replace(" ", ""): each for each in _SYMBOLS.split("|")}
    return known.get(compact, symbol.strip())
