"""The page on how to wrap a program: its commands do what it says, in an empty directory."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "wrap-a-program.md"
BLOCK = re.compile(r"^```(sh|yaml|json)\n(.*?)^```", re.MULTILINE | re.DOTALL)
DEFINITION = "merge-data.yaml"
RECIPE = "merge.json"


def test_the_commands_of_the_page_succeed_one_after_the_other(tmp_path: Path) -> None:
    script, definition = ["set -euo pipefail", "trap 'kill $(jobs -p) || true' EXIT"], ""
    for kind, text in BLOCK.findall(PAGE.read_text()):
        if kind == "yaml":  # the definition as it grows
            definition += text
            script.append(f"cat >{DEFINITION} <<'_END_'\n{definition}_END_")
        elif kind == "json":
            script.append(f"cat >{RECIPE} <<'_END_'\n{text}_END_")
        else:
            script.append(text)
    (tmp_path / "script").write_text("\n".join(script))
    work = tmp_path / "work"
    work.mkdir()
    done = subprocess.run(
        ["timeout", "100", "bash", "-x", str(tmp_path / "script")], cwd=work, check=False,
        capture_output=True, text=True, timeout=120,
        env={"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
             "ZWRAP_STATE": str(tmp_path / "state"), "ZWRAP_SPOOL": str(tmp_path / "spool"),
             "HOME": str(tmp_path), "DATA": str(ROOT / "examples/demo/data")},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    said = done.stdout
    assert "ERROR while reading" in said
    assert 'merged: merge-data.err, parser regex: {"observations": 20208, "reflections": 5998}' in (
        said
    )
    assert "FAILED  no text '^ERROR.*' in stderr: merge-data.err:2: ERROR while reading" in said
    assert "  cannot-read-data: gemmi cannot read " in said
    assert said.count("good: merge-data, test saved/good") == 2
    assert said.count("verdict: success") == 2
    assert f"good: program merge-data ({work}/programs/merge-data.yaml)" in said
    assert (work / "try" / "merged.mtz").stat().st_size
    assert (work / "run" / "merged.mtz").stat().st_size
