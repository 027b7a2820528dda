"""Output of lists: a table for people, or one JSON object a line for programs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from rich.console import Console
from rich.table import Table

from zwrap.cli.common import say
from zwrap.message import encode

PIPED_WIDTH = 200
"""Width of a table that does not go to a terminal, in characters."""


def show(
    objects: Iterable[Mapping[str, object]], columns: Mapping[str, str], *, as_json: bool
) -> None:
    """Write objects to standard output.

    Args:
        objects: Objects to write, in this order.
        columns: Key of each column of the table to its title.
        as_json: Write each object in full as a line of JSON instead of the table.
    """
    if as_json:
        for each in objects:
            say(encode(each).decode())
        return
    table = Table(*columns.values())
    for each in objects:
        cells = (each[key] for key in columns)
        table.add_row(*("" if cell is None else str(cell) for cell in cells))
    terminal = Console()
    (terminal if terminal.is_terminal else Console(width=PIPED_WIDTH)).print(table)
