"""The site configuration of transports that a program constructs itself."""

from __future__ import annotations

from zwrap.configuration.site import Configuration

_given: list[Configuration] = []


def use(configuration: Configuration) -> None:
    """Let transports of this process connect as a configuration says, in place of `site`'s own."""
    _given[:] = [configuration]


def site() -> Configuration:
    """Return the configuration that was given, else the one that ZOCALO_CONFIG names, activated."""
    if not _given:
        configuration = Configuration.from_file()
        configuration.activate()
        use(configuration)
    return _given[0]
