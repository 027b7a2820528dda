"""Programs that write a NAME.log themselves: standard output goes to NAME.out, and all is kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from zwrap.program.reading import find_program
from zwrap.wrapper.trial import Trial

DIALS = (
    "import", "find_spots", "index", "refine", "refine_bravais_settings", "integrate", "symmetry",
    "cosym", "scale", "merge", "export", "estimate_resolution",
)  # fmt: skip
WRITES = (
    *(f"dials.{name}" for name in DIALS),
    "dimple", "fast_dp", "fast_rdp", "screen19", "xia2.multiplex", "xia2.multiplex_filtering",
    "xia2.ssx", "xia2.ssx_reduce",
)  # fmt: skip
"""Programs that begin a log of their own name anew, by their sources (DIALS 3.12: log= of each)."""

PROGRAM = """\
#!/bin/sh
echo loading
echo own log begins >screen19.log
echo WARN: only here
sleep 0.1
echo own log ends >>screen19.log
echo last words >&2
"""


@pytest.mark.parametrize("name", WRITES)
def test_standard_output_has_another_name_than_the_log_of_the_program(name: str) -> None:
    definition = find_program(f"zwrap:{name}", {})
    assert definition
    assert definition.stdout == f"{name}.out"


def test_the_log_of_the_program_and_its_standard_output_are_whole(tmp_path: Path) -> None:
    program = tmp_path / "screen19"
    program.write_text(PROGRAM)
    program.chmod(0o700)
    definition = find_program("zwrap:screen19", {})
    assert definition
    run = tmp_path / "run"
    run.mkdir()
    values = {"executable": str(program), "screen-selection": "x.cbf"}
    judged = Trial(definition, values, None, run).run()
    assert not judged.failures
    assert (run / "screen19.log").read_text() == "own log begins\nown log ends\n"
    assert (run / "screen19.out").read_text() == "loading\nWARN: only here\n"
    assert (run / "screen19.err").read_text() == "last words\n"


HELP = "usage: dials.index [options] models.expt strong.refl\n"


@pytest.mark.parametrize("name", ["dials.index.out", "dials.index.log", "dials.index.stdout"])
def test_output_that_was_kept_under_an_earlier_name_is_judged(tmp_path: Path, name: str) -> None:
    """The text counts only on standard output, which was in NAME.log, beside NAME.err."""
    (tmp_path / name).write_text(HELP)
    (tmp_path / "dials.index.err").touch()
    definition = find_program("zwrap:dials.index", {})
    assert definition
    values = {"experiments": "x.expt", "reflections": "x.refl"}
    judged = Trial(definition, values, None, tmp_path, saved=True).judge(1)
    assert judged.known
    assert judged.known.cause == "input-missing"


def test_the_log_of_the_program_alone_is_no_standard_output(tmp_path: Path) -> None:
    (tmp_path / "dials.index.log").write_text(HELP)
    definition = find_program("zwrap:dials.index", {})
    assert definition
    values = {"experiments": "x.expt", "reflections": "x.refl"}
    judged = Trial(definition, values, None, tmp_path, saved=True).judge(1)
    assert judged.failures
    assert judged.known is None
