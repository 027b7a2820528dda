"""``zocalo.util.symlink``: links to results."""

from __future__ import annotations

from pathlib import Path

from zwrap.host.links import create_parent_symlink as create_parent_symlink, put_link


def symlink_to(
    link_destination: Path,
    link_path: Path,
    *,
    target_is_directory: bool = False,
    overwrite_symlink: bool = False,
) -> bool:
    """Create the link `link_path` to `link_destination`; return True if it was created.

    An existing link is replaced only with `overwrite_symlink`, and any other file never.
    `target_is_directory` has a meaning on Windows only.
    """
    del target_is_directory
    return put_link(Path(link_path), Path(link_destination), overwrite=overwrite_symlink)
