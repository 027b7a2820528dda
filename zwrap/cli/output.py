"""Output of lists and pictures: a table for people, or one JSON object a line for programs.

Only this module and `zwrap.recipe.drawing` use rich: all text becomes `Text`, so that nothing from
outside acts as markup, or on the terminal. Lines are written by `say` and its neighbours in
`zwrap.cli.common`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from zwrap.cli.common import say_json
from zwrap.host.hiding import shown

PIPED_WIDTH = 200
"""Width of a table that does not go to a terminal, in characters."""

CELL_WIDTH = 1000
"""Longest text in a cell of a table, in characters."""


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
            say_json(each, indent=-1)
        return
    rows = ([each[key] for key in columns] for each in objects)
    show_table(columns.values(), rows)


def show_table(titles: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    """Write a table to standard output; cells of None are empty."""
    _console().print(table(titles, rows))


def show_tree(tree: Tree) -> None:
    """Write a tree, whose labels are instances of `Text`, to standard output."""
    _console().print(tree)


def show_always(made: Callable[[], Table], interval_s: float) -> None:
    """Write a table, and a new one in its place at each interval, in seconds, until interrupted."""
    with Live(made(), console=_console(), auto_refresh=False) as live:
        while True:
            time.sleep(interval_s)
            live.update(made(), refresh=True)


def table(titles: Iterable[str], rows: Iterable[Iterable[object]]) -> Table:
    """Return a table of rows; cells of None are empty."""
    made = Table(*titles)
    for row in rows:
        made.add_row(*map(_cell, row))
    return made


def _cell(value: object) -> Text:
    """Return a cell of a table, which is cut to `CELL_WIDTH`."""
    text = "" if value is None else shown(str(value)[: CELL_WIDTH + 1])
    return Text(text if len(text) <= CELL_WIDTH else f"{text[:CELL_WIDTH]}…")


def _console() -> Console:
    """Return the terminal, or a page of `PIPED_WIDTH` where there is none."""
    terminal = Console(markup=False, highlight=False, emoji=False)
    if terminal.is_terminal:
        return terminal
    return Console(width=PIPED_WIDTH, markup=False, highlight=False, emoji=False)
