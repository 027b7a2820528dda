"""Console commands of this installation, and the distribution that each belongs to.

python-zocalo has commands of the same names. Of two distributions in one environment, the one that
is installed last has the files, and whichever is uninstalled takes them along.
"""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

SCRIPT_BYTES = 4096
"""Size of the beginning of a command that tells what it starts, in bytes."""


def other_owner(file: Path) -> str:
    """Return what a command starts instead of zwrap; empty if it may be zwrap's.

    Known are the scripts that pip, uv and setuptools write. Any other, such as a shell script by
    which a site starts zwrap, may be zwrap's.
    """
    text = ""
    with contextlib.suppress(OSError), file.open("rb") as opened:
        text = opened.read(SCRIPT_BYTES).decode("utf-8", "replace")
    if wrapped := re.search(r"(?m)^from ([\w.]+) import (\w+)[^\n]*\n(?:.*\n)*.*exit\(\2\b", text):
        return "" if wrapped[1].partition(".")[0] == "zwrap" else wrapped[1]
    old = re.search(r"""['"]([\w.-]+)==[^'"]+['"],\s*['"]console_scripts['"]""", text)
    return "" if old is None or old[1] == "zwrap" else old[1]
