"""The key of a site, which proves what its services have sent."""

from __future__ import annotations

from pathlib import Path

from zwrap.configuration.site import Configuration
from zwrap.host.paths import state_directory
from zwrap.host.sitekey import SiteKey

KEY_FILE = "site.key"
"""Name of the file with the key in the state directory, for a site that names no other."""


def site_key(configuration: Configuration, *, create: bool = True) -> SiteKey:
    """Return the key of a site; with `create` a file that is missing is made at its first use."""
    named = configuration.site.security.key_file
    return SiteKey(Path(named) if named else state_directory() / KEY_FILE, create=create)
