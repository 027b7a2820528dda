"""The id of a process among all those of a site."""

from __future__ import annotations

from zwrap.host.processes import host_id


def generate_unique_host_id() -> str:
    """Return the id of this process: host name, most general part first, and process id."""
    return host_id()
