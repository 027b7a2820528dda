"""Errors of python-workflows, and its version."""

from __future__ import annotations

from zwrap.compat.workflows import __version__
from zwrap.errors import TransportError


class Error(Exception):
    """Base of what these modules raise deliberately."""


class Disconnected(Error, TransportError):  # noqa: N818 - the name of python-workflows
    """The connection is lost, or was never made.

    In a service that is an outage: the message comes again, which does not count.
    """


def version() -> str:
    """Return the version of python-workflows whose names these are."""
    return __version__
