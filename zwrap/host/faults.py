"""Errors of the operating system: which of them affect all messages, and which are temporary."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator

from zwrap.errors import OutageError, PermanentError
from zwrap.host.printable import shown_path

SHARED = frozenset(
    {
        errno.ENOSPC,  # no room on the disk
        errno.EDQUOT,  # no room in the quota
        errno.EROFS,  # mounted read-only, as Linux does after an error of the disk
        errno.EMFILE,  # too many files open in this process
        errno.ENFILE,  # too many files open on this host
        errno.ENOMEM,
        errno.EAGAIN,  # no room for another process or thread
        errno.ESTALE,  # NFS: the server does not know the directory any more, or not yet
        errno.EIO,
        errno.ETIMEDOUT,
        errno.ENOTCONN,  # a filesystem in user space whose server is away
        errno.ECONNREFUSED,
        errno.ECONNRESET,
        errno.ECONNABORTED,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.ENOLCK,  # NFS: the lock server is away
        errno.EREMOTEIO,
    }
)
"""Error numbers (errno(3)) that tell about the host or a filesystem, and not about one path."""

NO_THREAD = "can't start new thread"
"""Text of the RuntimeError with which Python tells that there is no room for another thread."""


def is_shared(error: BaseException) -> bool:
    """Return whether an error says that something which all messages share is away.

    Only these pass by themselves; any other error of a path, such as a name that is too long, stays
    as it is however often it is tried.
    """
    if isinstance(error, MemoryError) or (type(error) is RuntimeError and str(error) == NO_THREAD):
        return True
    return isinstance(error, OSError) and error.errno in SHARED


@contextlib.contextmanager
def of_named_paths(what: str, kind: type[PermanentError]) -> Iterator[None]:
    """Turn an error of a path that a message names, inside the context, into one of zwrap's errors.

    Args:
        what: Begin of the sentence, such as "The files of the job cannot be written".
        kind: Type of the error if the path itself is at fault.

    Raises:
        OutageError: The filesystem is away or full, which passes.
        PermanentError: The path cannot be used; of type `kind`.
    """
    try:
        yield
    except OSError as error:
        told = OutageError if is_shared(error) else kind
        where = f"{shown_path(error.filename)}: " if error.filename is not None else ""
        raise told(f"{what}: {where}{error.strerror or error}.") from None
    except ValueError as error:  # a NUL, or characters that no path can have
        raise kind(f"{what}: {error}.") from None
