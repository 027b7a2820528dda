"""Distributions in directories of a test, as an installer leaves them."""

from __future__ import annotations

from pathlib import Path


def install(place: Path, directory: str, entries: str, name: str = "") -> None:
    """Leave a distribution as an installer does; `entries` are lines of its entry points."""
    info = place / directory
    info.mkdir(parents=True)
    told = name or directory.partition("-")[0]
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {told}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[console_scripts]\nx = y:z\n\n{entries}\n")
