"""Errors of HTTP that ported code expects, beside zwrap's own.

python-zocalo's classes raise the errors of package requests. Where the calling program has loaded
that package, the errors here are those, too, so that its ``except requests.HTTPError`` holds.
"""

from __future__ import annotations

import sys
from typing import Any

import httpx

from zwrap.errors import MessageError, TransportError


def refused(sentence: str, response: httpx.Response) -> Exception:
    """Return the error of a request that the server refused; `response` is its answer.

    It is a MessageError and, if that package is loaded, a ``requests.HTTPError``.
    """
    return _both(MessageError, "HTTPError", sentence, response)


def unreachable(sentence: str) -> Exception:
    """Return the error of a server that does not answer.

    It is a TransportError and, if that package is loaded, a ``requests.ConnectionError``.
    """
    return _both(TransportError, "ConnectionError", sentence, None)


def _both(own: type[Exception], name: str, sentence: str, response: object) -> Exception:
    """Return an error of zwrap that is also an error of package requests."""
    requests: Any = sys.modules.get("requests")
    theirs = getattr(requests, name, None)
    bases = (own, theirs) if isinstance(theirs, type) else (own,)
    error: Exception = type(name, bases, {"__module__": __name__, "response": None})(sentence)
    error.response = response  # type: ignore[attr-defined]
    return error
