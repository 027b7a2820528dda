"""The last release, installed as a site has it, and replaced by today's package under its jobs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import warnings
from pathlib import Path

ROOT = Path(__file__).parents[2]

PARTS = (
    "setup.py", "pyproject.toml", "README.md", "LICENSE", "zwrap", "schedulers", "templates",
)  # fmt: skip
"""Files and folders from which a wheel is built."""

PACKAGES = ("zwrap", "zwrap_schedulers", "zwrap_templates")


def last_commit() -> str | None:
    """Return the commit whose wheel stands for the last release.

    ``ZWRAP_TEST_RELEASE`` names another than the one before this. Where the history does not go
    back so far, this commit has to do.
    """
    for commit in (os.environ.get("ZWRAP_TEST_RELEASE"), "HEAD~1"):
        if commit and _git("rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}"):
            return commit
    warnings.warn("No commit before this one: it is upgraded to itself.", stacklevel=2)
    return None


def _git(*arguments: str) -> bytes:
    done = subprocess.run(["git", "-C", ROOT, *arguments], capture_output=True, check=False)
    return done.stdout


def wheel_of(commit: str | None, directory: Path) -> Path:
    """Build the wheel of a commit, or of the project as it is."""
    source, made = directory / "source", directory / "wheel"
    source.mkdir()
    if commit:
        tree = _git("archive", commit, *PARTS)
    else:
        packing = ["tar", "-c", "-C", ROOT, "--exclude=__pycache__", *PARTS]
        tree = subprocess.run(packing, capture_output=True, check=True).stdout
    subprocess.run(["tar", "-x", "-C", source], input=tree, check=True)
    pip("wheel", "--no-deps", "--no-build-isolation", "-w", made, source)
    [wheel] = made.glob("*.whl")
    return wheel


def pip(*arguments: str | Path) -> None:
    command = [sys.executable, "-P", "-m", "pip", "-q", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def release_in(packages: Path) -> list[str]:
    """Return the names of the directories of zwrap among installed packages."""
    return [*PACKAGES, *(each.name for each in packages.glob("zwrap-*.dist-info"))]


class Installation:
    """An environment of its own with a release in it; what that needs comes from the tests' own."""

    def __init__(self, directory: Path, wheel: Path) -> None:
        self.bin = directory / "bin"
        subprocess.run([sys.executable, "-P", "-m", "venv", "--without-pip", directory], check=True)
        [self._packages] = directory.glob("lib/python*/site-packages")
        pip("--python", self.bin / "python", "install", "--no-deps", "--no-index", wheel)
        (self._packages / "theirs.pth").write_text(sysconfig.get_path("purelib") + "\n")

    def upgrade(self) -> None:
        """Replace the release by today's package, in place, as `pip install -U` does."""
        today = Path(sysconfig.get_path("purelib"))
        for name in release_in(self._packages):
            shutil.rmtree(self._packages / name)
        for name in release_in(today):
            shutil.copytree(today / name, self._packages / name)
        ours = Path(sys.executable).parent
        for name in ("zwrap", "zocalo.wrap", "zocalo.service", "zocalo.go"):
            script = (ours / name).read_text().replace(str(ours), str(self.bin))
            (self.bin / name).write_text(script)
