"""Errors of zwrap: one base class, a permanent and a temporary branch, one sentence each.

A permanent failure (exit status 100) stays a failure however often it is tried; a temporary one
(exit status 111) may go away by itself. The two numbers are those of qmail and s6.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

PERMANENT = 100
"""Exit status of a failure that another try cannot cure."""

TEMPORARY = 111
"""Exit status of a failure that another try may cure."""


class ZwrapError(Exception):
    """Something went wrong inside zwrap."""

    exit_status = 1

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or self.__doc__ or type(self).__name__)


class PermanentError(ZwrapError):
    """The request cannot succeed, however often it is tried."""

    exit_status = PERMANENT


class TemporaryError(ZwrapError):
    """The request failed now and may succeed later."""

    exit_status = TEMPORARY

    def __init__(self, message: str | None = None, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        """Seconds after which another try makes sense; None: the caller's usual back-off."""


class UnknownNameError(PermanentError):
    """Nothing of that name is known."""

    def __init__(self, kind: str, name: object, known: Iterable[str], where: str = "") -> None:
        """Make the message: the unknown name, the nearest known name, and all known names.

        Args:
            kind: Kind of thing that should have the name, such as "wrapper".
            name: The unknown name.
            known: Names that could have been used.
            where: File and key in which the name was given.
        """
        self.name = name
        self.known = sorted(known)
        close = difflib.get_close_matches(str(name), self.known, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        listing = ", ".join(self.known) or "none"
        place = f" ({where})" if where else ""
        super().__init__(f"Unknown {kind} {name!r}{place}.{hint} Known: {listing}.")


class ConfigurationError(PermanentError):
    """The site configuration is not usable."""


class RecipeError(PermanentError):
    """A recipe is not usable."""


class MessageError(PermanentError):
    """A message does not hold what its receiver needs."""


class RequestError(PermanentError):
    """A job request cannot be turned into a job."""


class TemplateError(PermanentError):
    """A job script template cannot be rendered."""


class ProgramError(PermanentError):
    """A program definition, or its parameters or input, is not usable."""


class RejectedError(PermanentError):
    """The batch system refused the job."""


class SettledError(PermanentError):
    """The delivery was settled before; each delivery is settled exactly once."""


class TransportError(TemporaryError):
    """The message transport cannot be used at present."""


class QueueFullError(TransportError):
    """A queue holds as many messages as it may hold."""


class UnreachableError(TemporaryError):
    """The batch system could not be asked; nothing is known about its jobs."""


class ClusterFullError(TemporaryError):
    """The batch system has as many jobs as it may have."""


class UnknownOutcomeError(TemporaryError):
    """The batch system may or may not have accepted the job; it must be looked up."""
