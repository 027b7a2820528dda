"""The page of shipped definitions: what is shipped, what was tried, and classes of dlstbx."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from zwrap.program.definition import SHIPPED_PROGRAMS
from zwrap.program.reading import INLINE_PROGRAM, program_names, read_definition

PAGE = Path(__file__).parents[2] / "docs/shipped.md"
SHIPPED = {
    name: read_definition(SHIPPED_PROGRAMS / f"{name}.yaml").status
    for name in program_names()
    if name != INLINE_PROGRAM
}
CLASSES = [
    "align_crystal",
    "align_crystal_downstream",
    "AlphaFold",
    "autoproc",
    "best",
    "big_ep",
    "dc_sim",
    "dimple",
    "dozor",
    "edna",
    "ep_predict",
    "estimate_transmission",
    "fast_dp",
    "fast_ep",
    "fast_rdp",
    "ligand_fit",
    "ligandrestraints",
    "metal_id",
    "mosflm_strategy",
    "mr_predict",
    "mrbump",
    "pandda_xchem",
    "phaser_ellg",
    "pipedream_xchem",
    "rlv",
    "scaleit",
    "screen19",
    "screen19_mx",
    "shelxc_stats",
    "shelxt",
    "spotcounts",
    "stepped_transmission",
    "topaz3",
    "xchem_collate",
    "xia2",
    "xia2.multiplex",
    "xia2.multiplex_filtering",
    "xia2.overload",
    "xia2.ssx",
    "xia2.ssx_reduce",
    "xia2.strategy",
    "xia2.to_shelxcde",
    "xoalign",
]
"""Names that python-dlstbx (bebb667) registers under ``zocalo.wrappers``."""


def rows(heading: str) -> Iterator[list[str]]:
    """Yield the cells of each row of the table below a heading."""
    part = PAGE.read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in part.splitlines() if line.startswith("|")]
    for line in lines[2:]:
        yield [cell.strip() for cell in line.strip("|").split("|")]


def status_in(text: str) -> str:
    return "untried" if "untried" in text else "tried"


def test_the_table_holds_each_shipped_definition_with_its_status() -> None:
    told = {
        name: status_in(status)
        for names, _, status in rows("Programs")
        for name in re.findall("`([^`]+)`", names)
        if name != INLINE_PROGRAM
    }
    assert told == SHIPPED


def test_each_wrapper_class_of_dlstbx_has_a_line() -> None:
    told = [row[0].strip("`") for row in rows("The wrapper classes of dlstbx")]
    assert told == CLASSES
    assert len(told) == 43
    shipped = [name for name in told if name in SHIPPED]
    assert len(shipped) >= 25


@pytest.mark.parametrize(
    "row", list(rows("The wrapper classes of dlstbx")), ids=lambda row: row[0].strip("`")
)
def test_what_a_line_says_of_a_definition_is_so(row: list[str]) -> None:
    name, here, remark = row
    if here == "-":
        assert name.strip("`") not in SHIPPED
        assert remark
    else:
        assert re.fullmatch("definition(, untried)?", here)
        assert status_in(here) == SHIPPED[name.strip("`")]
