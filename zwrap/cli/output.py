"""Output of lists and pictures: a table for people, or one JSON object a line for programs.

Only this module and `zwrap.recipe.drawing` use rich: all text becomes `Text`, so that nothing from
outside acts as markup, or on the terminal. Lines are written by `say` and its neighbours in
`zwrap.cli.common`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from zwrap.cli.common import say, say_json
from zwrap.host.hiding import shown

PIPED_WIDTH = 200
"""Width of a table that does not go to a terminal, in characters."""

CELL_WIDTH = 1000
"""Longest text in a cell of a table, in characters."""

GAP = "  "
"""Space between columns that have no lines between them."""

LAST_WIDTH = 24
"""Width that the last column keeps on a narrow terminal, if it needs it, in characters."""

LEAST_WIDTH = 8
"""Width to which other columns are cut for that, in characters."""

ELLIPSIS = "\u2026"
"""End of a text that was cut."""


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


def show_columns(
    titles: Sequence[str], rows: Iterable[Iterable[object]], *, whole: Collection[str] = ()
) -> None:
    """Write rows to standard output in columns without lines between them; None is empty.

    On a terminal they are cut to its width, with an ellipsis, the last column first; elsewhere only
    to `CELL_WIDTH`. `whole`: titles of columns that are never cut.
    """
    texts = [list(titles), *([_cell(value).plain for value in row] for row in rows)]
    widths = [max(map(cell_len, column)) for column in zip(*texts, strict=True)]
    terminal = Console(markup=False, highlight=False, emoji=False)
    if terminal.is_terminal:
        widths = _narrowed(widths, terminal.width, [title not in whole for title in titles[:-1]])
    for row in texts:
        cells = [_fitted(text, width) for text, width in zip(row, widths, strict=True)]
        say(GAP.join(cells).rstrip())


def _narrowed(widths: Sequence[int], width: int, may_be_cut: Sequence[bool]) -> list[int]:
    """Return widths of columns that fit into a line: the last gives way first, then the widest.

    `may_be_cut`: of each column but the last.
    """
    found = list(widths)
    room = width - len(GAP) * (len(found) - 1)
    found[-1] = max(min(found[-1], room - sum(found[:-1])), min(found[-1], LAST_WIDTH))
    while sum(found) > room:
        places = [place for place, may in enumerate(may_be_cut) if may]
        widest = max(places, key=lambda place: found[place], default=None)
        if widest is None or found[widest] <= LEAST_WIDTH:
            break
        found[widest] -= 1
    found[-1] = max(found[-1] - max(sum(found) - room, 0), 1)
    return found


def _fitted(text: str, width: int) -> str:
    """Return a text of a width in cells, filled up, or cut with an ellipsis."""
    if cell_len(text) <= width:
        return set_cell_size(text, width)
    return set_cell_size(set_cell_size(text, max(width - 1, 0)).rstrip() + ELLIPSIS, width)


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
    return Text(text if len(text) <= CELL_WIDTH else f"{text[:CELL_WIDTH]}{ELLIPSIS}")


def _console() -> Console:
    """Return the terminal, or a page of `PIPED_WIDTH` where there is none."""
    terminal = Console(markup=False, highlight=False, emoji=False)
    if terminal.is_terminal:
        return terminal
    return Console(width=PIPED_WIDTH, markup=False, highlight=False, emoji=False)
