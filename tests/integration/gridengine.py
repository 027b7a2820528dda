"""Changes to the configuration of a private Grid Engine, made as its administrator."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path


def qmaster(sge: dict[str, str], *command: str) -> str:
    """Run a program of Grid Engine; its output."""
    environment = {**os.environ, **sge}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return done.stdout


def configured(sge: dict[str, str], directory: Path, key: str, value: str) -> str:
    """Change the global configuration of the rig; what was there."""
    lines = qmaster(sge, "qconf", "-sconf").splitlines(keepends=True)
    before = next(line.split()[1] for line in lines if line.startswith(f"{key} "))
    changed = [f"{key} {value}\n" if line.startswith(f"{key} ") else line for line in lines]
    (directory / "global").write_text("".join(changed))
    qmaster(sge, "qconf", "-Mconf", str(directory / "global"))
    return before
