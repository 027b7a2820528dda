"""An id for this process that no other process of the site has."""

from __future__ import annotations

from zwrap.host.processes import host_id


def generate_unique_host_id() -> str:
    """Return the id of this process: host name, most general part first, and process id."""
    return host_id()
