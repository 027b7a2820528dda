"""Symbolic links to results."""

from __future__ import annotations

import os
from pathlib import Path

from zwrap.host.processes import this_process


def create_parent_symlink(
    destination_path: str | Path,
    symlink_name: str,
    *,
    levels: int = 2,
    overwrite_symlink: bool = False,
) -> bool:
    """Create a relative link to `destination_path`, `levels` directories above it.

    ``/results/run/17`` with name ``latest`` gives ``/results/latest -> run/17``. An existing link
    is replaced only with `overwrite_symlink`, and any other file never. Returns True if the link
    was created; raises ValueError for a relative path or a level below 1. Signature and meaning are
    those of python-zocalo's ``zocalo.util.symlink.create_parent_symlink``.
    """
    destination = Path(destination_path)
    if not destination.is_absolute() or levels < 1:
        raise ValueError(
            f"An absolute path and a level above 0 are expected, not {destination} and {levels}."
        )
    target = Path(*destination.parts[-levels:])
    return put_link(
        destination.parents[levels - 1] / symlink_name, target, overwrite=overwrite_symlink
    )


def put_link(place: Path, target: Path, *, overwrite: bool) -> bool:
    """Create a link at `place`; with `overwrite` it may replace a link, but never anything else.

    Returns True if the link was created.
    """
    if place.is_symlink():
        if not overwrite:
            return False
    elif place.exists():
        return False
    scratch = place.with_name(f".{place.name[:25]}.{this_process()}.tmp")
    scratch.unlink(missing_ok=True)
    scratch.symlink_to(target)
    try:
        os.replace(scratch, place)
    finally:
        scratch.unlink(missing_ok=True)
    return True
