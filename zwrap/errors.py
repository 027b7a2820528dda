"""Errors of zwrap: one base class, a permanent and a temporary branch, one sentence each.

A permanent failure (exit status 100) stays a failure however often it is tried; a temporary one
(exit status 111) may go away by itself. The two numbers are those of qmail and s6.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

PERMANENT = 100
"""Exit status of a failure that another try cannot cure."""

TEMPORARY = 111
"""Exit status of a failure that another try may cure."""


def short(value: object) -> str:
    """Return a value as text of about 80 characters at most, for a sentence about it."""
    if isinstance(value, str) and len(value) <= 58 and value.isalnum():
        return repr(value)
    import reprlib  # cuts before it writes: values may have any size and depth

    shortener = reprlib.Repr()
    shortener.maxstring = shortener.maxother = shortener.maxlong = 60
    shortener.maxlevel, shortener.maxlist, shortener.maxdict = 2, 4, 3
    try:
        shown = shortener.repr(value)
    except ValueError:  # Python does not write integers of more than 4300 digits
        return "a number of more digits than can be shown"
    return shown if len(shown) <= 80 else f"{shown[:80]}..."


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

    retry_after_s: float | None = None
    """Seconds after which another try makes sense; None: the caller's usual back-off."""

    def __init__(self, message: str | None = None, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class OutageError(TemporaryError):
    """Something that all messages share is away, so that the failure is of none of them."""


class UnknownNameError(PermanentError):
    """Nothing of that name is known."""

    def __init__(
        self, kind: str, name: object, known: Iterable[str], where: str = "", further: str = ""
    ) -> None:
        """Make the message: the unknown name, the nearest known name, and all known names.

        Args:
            kind: Kind of thing that should have the name, such as "wrapper".
            name: The unknown name.
            known: Names that could have been used.
            where: File and key in which the name was given.
            further: A further sentence.
        """
        self.name = name
        self.known = sorted(known)
        import difflib  # 2 ms that a job without a mistake need not wait for

        close = difflib.get_close_matches(str(name)[:200], self.known, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        listing = ", ".join(self.known) or "none"
        place = f" ({where})" if where else ""
        self.where = where
        text = f"Unknown {kind} {short(name)}{place}.{hint} Known: {listing}."
        super().__init__(f"{text} {further}".rstrip())


class ConfigurationError(PermanentError):
    """The site configuration is not usable."""


class FaultsError(ConfigurationError):
    """The site configuration has several faults, each of which is told."""

    def __init__(self, faults: Sequence[PermanentError]) -> None:
        super().__init__(" ".join(map(str, faults)))
        self.faults = tuple(faults)


class UnknownEntryError(UnknownNameError, ConfigurationError, ValueError):
    """The site configuration has no environment, or no section, of that name.

    It is a ValueError, too, because python-zocalo raises that for an unknown environment.
    """


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


class TransportError(OutageError):
    """The message transport cannot be used at present."""


class QueueFullError(TransportError):
    """A queue holds as many messages as it may hold; other queues still take messages."""


class UnreachableError(OutageError):
    """The batch system could not be asked; nothing is known about its jobs."""


class WaitingError(TemporaryError):
    """Something that some messages need is not there now; whoever raises this tells it once."""


class ClusterFullError(WaitingError):
    """The batch system does not take such a job now."""


class UnknownOutcomeError(TemporaryError):
    """The batch system may or may not have accepted the job; it must be looked up."""
