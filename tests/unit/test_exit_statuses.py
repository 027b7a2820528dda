"""Exit statuses of commands: where they differ from python-zocalo's, the page says so."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

DIFFERENT = (Path(__file__).parents[2] / "docs" / "zocalo.md").read_text()


@pytest.mark.parametrize(
    ("module", "words", "status", "said"),
    [
        (
            "wrap",
            ["--wrap", "dummy"],
            2,
            "zocalo.wrap` without `--recipewrapper` ends with status 2",
        ),
        ("go", ["-n"], 1, "for a command line of `zocalo.go`\n  that names no recipe or no ID"),
        ("dlq_check", ["-n", "x"], 100, "A command that fails ends with 100"),
        ("dlq_check", ["--rabbit-odd"], 2, "an unknown option ends with 2"),
    ],
)
def test_exit_statuses_are_those_that_the_page_on_differences_names(
    module: str, words: list[str], status: int, said: str, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-m", f"zwrap.cli.{module}", *words], check=False,
        capture_output=True, text=True, cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "ZWRAP_STATE": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == status, done.stderr
    assert done.stderr
    assert said in DIFFERENT
