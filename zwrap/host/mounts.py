"""The type of the filesystem that holds a path."""

from __future__ import annotations

from pathlib import Path

NETWORK_FILESYSTEMS = {
    "nfs", "nfs4", "lustre", "gpfs", "beegfs", "cifs", "smb3", "ceph", "glusterfs", "afs",
    "fuse.sshfs", "fuse.glusterfs", "pvfs2", "9p",
}  # fmt: skip
"""Types of filesystems that several hosts may have mounted."""


def filesystem_of(path: Path) -> str:
    """Return the type of the filesystem that holds a path, as mounted (proc(5), mounts)."""
    best, kind = "", "unknown"
    target = str(path.resolve())
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, mount, fstype, *_ = line.split(" ")
        mount = mount.replace("\\040", " ")
        inside = target == mount or target.startswith(mount.rstrip("/") + "/")
        if inside and len(mount) >= len(best):
            best, kind = mount, fstype
    return kind
