"""Symbolic links that can be replaced at any time without ever being absent."""

from __future__ import annotations

import os
from pathlib import Path

from zwrap.host import this_process


def create_parent_symlink(
    destination_path: str | Path,
    symlink_name: str,
    *,
    levels: int = 2,
    overwrite_symlink: bool = False,
) -> bool:
    """Link to `destination_path` from `levels` directories above it, by a relative path.

    ``/results/run/17`` with name ``latest`` gives ``/results/latest -> run/17``. What is there
    already and is no link is never touched, a link only with `overwrite_symlink`; the answer says
    whether the link was made. Signature and meaning are python-zocalo's
    ``zocalo.util.symlink.create_parent_symlink``.
    """
    destination = Path(destination_path)
    if not destination.is_absolute() or levels < 1:
        raise ValueError(
            f"An absolute path and a level above 0 are expected, not {destination} and {levels}."
        )
    place = destination.parents[levels - 1] / symlink_name
    target = Path(*destination.parts[-levels:])
    if place.is_symlink():
        if not overwrite_symlink:
            return False
    elif place.exists():
        return False
    scratch = place.with_name(f".{symlink_name[:100]}.{this_process()}.tmp")
    scratch.unlink(missing_ok=True)
    scratch.symlink_to(target)
    try:
        os.replace(scratch, place)
    finally:
        scratch.unlink(missing_ok=True)
    return True
