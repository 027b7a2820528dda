"""Rules of progress in a heartbeat."""

from __future__ import annotations

import itertools
from pathlib import Path

from zwrap.program.reading import find_program
from zwrap.wrapper.heartbeat import Heartbeat

XIA2 = find_program("xia2", {})
LOG = Path(__file__).parents[1] / "data/xia2/v3.12.0/success_insulin_sad/xia2.txt"


def test_the_stage_of_xia2_is_its_progress_until_the_next_begins(tmp_path: Path) -> None:
    """Headings such as `---- Scaling xinsu1 ----` leave the tail before the next one comes."""
    assert XIA2
    heartbeat = Heartbeat("t", "xia2", {})
    heartbeat.progress = XIA2.progress
    heartbeat.log = tmp_path / "xia2.log"
    stages = []
    text = ""
    for line in LOG.read_text().splitlines(keepends=True):
        text += line
        heartbeat.log.write_text(text)
        stages.append(heartbeat.body().get("progress"))
    assert stages[0] is None
    assert stages[-1] == "Unit cell refinement"
    changes = [stage for before, stage in itertools.pairwise(stages) if stage != before]
    assert changes == [
        "Spotfinding SWEEP1", "Autoindexing SWEEP1", "Integrating SWEEP1", "Preparing xinsu1",
        "Scaling xinsu1", "Systematic absences check", "Unit cell refinement",
    ]  # fmt: skip
