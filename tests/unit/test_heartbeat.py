"""Rules of the content of a heartbeat."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

from zwrap.program.reading import find_program
from zwrap.wrapper.heartbeat import USAGE_AFTER_S, Heartbeat

XIA2 = find_program("xia2", {})
LOG = Path(__file__).parents[1] / "data/xia2/v3.12.0/success_insulin_sad/xia2.txt"


def test_the_stage_of_xia2_is_its_progress_until_the_next_begins(tmp_path: Path) -> None:
    """Headings such as `---- Scaling xinsu1 ----` leave the tail before the next one comes."""
    assert XIA2
    heartbeat = Heartbeat("t", "xia2", {})
    log = tmp_path / "xia2.log"
    heartbeat.follow(XIA2.progress, log, tmp_path / "xia2.err", tmp_path)
    stages = []
    text = ""
    for line in LOG.read_text().splitlines(keepends=True):
        text += line
        log.write_text(text)
        stages.append(heartbeat.body().get("progress"))
    assert stages[0] is None
    assert stages[-1] == "Unit cell refinement"
    changes = [stage for before, stage in itertools.pairwise(stages) if stage != before]
    assert changes == [
        "Spotfinding SWEEP1", "Autoindexing SWEEP1", "Integrating SWEEP1", "Preparing xinsu1",
        "Scaling xinsu1", "Systematic absences check", "Unit cell refinement",
    ]  # fmt: skip


def test_cpu_and_memory_are_measured_only_of_a_program_that_runs_for_a_while(
    tmp_path: Path,
) -> None:
    now = 100.0
    heartbeat = Heartbeat("task", "program", {"site": "x"}, clock=lambda: now)
    heartbeat.pid = os.getpid()
    body = heartbeat.body()
    assert (body["task"], body["program"], body["site"]) == ("task", "program", "x")
    assert (body["elapsed_s"], "memory_mib" in body, "tail" in body) == (0.0, False, False)
    now += USAGE_AFTER_S + 0.1
    heartbeat.log = tmp_path / "log"
    heartbeat.log.write_text("".join(f"{number}\n" for number in range(9)))
    body = heartbeat.body()
    assert body["elapsed_s"] == 2.6
    assert body["memory_mib"] > 1
    assert heartbeat.usage.peak_mib >= body["memory_mib"] - 0.1
    assert body["tail"] == ["4", "5", "6", "7", "8"]
