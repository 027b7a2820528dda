"""Send requests of schedulers; connections are kept open for the next request.

Uses httpcore, the lower half of httpx: what the upper half adds (redirects, cookies, encodings) is
not needed here, and takes more time than all the rest of a submission.
"""

from __future__ import annotations

import threading
import time

import httpcore

from zwrap.host.hiding import HIDDEN, is_secret, without_secrets
from zwrap.scheduler import HttpRequest, Reply

_pools: dict[str, httpcore.ConnectionPool] = {}
_lock = threading.Lock()

_ERRORS = (
    httpcore.TimeoutException,
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.UnsupportedProtocol,
    ValueError,  # not a valid URL
    TypeError,  # a header that is not ASCII
)


def send(request: HttpRequest) -> Reply:
    """Send a request and return the reply; it has no status if none came in time.

    `Reply.unsent` is True if no connection was made.
    """
    server, url = _split(request.url)
    deadline = time.monotonic() + request.timeout_s
    limits = dict.fromkeys(("connect", "read", "write", "pool"), request.timeout_s)
    try:
        with _pool(server).stream(
            request.method,
            url,
            headers=list(request.headers.items()),
            content=request.body.encode() if request.body else None,
            extensions={"timeout": limits},
        ) as response:
            content = b""
            for part in response.iter_stream():
                content += part
                if time.monotonic() > deadline:
                    raise httpcore.ReadTimeout(f"not all of it within {request.timeout_s:g} s")
            text = content.decode("utf-8", errors="replace")
            return Reply(status=response.status, output=_without_token(text, request))
    except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
        return Reply(status=None, error=_sentence(server, error, request), unsent=True)
    except _ERRORS as error:
        return Reply(status=None, error=_sentence(server, error, request))


def _sentence(server: str, error: Exception, request: HttpRequest) -> str:
    """Return server and text of an error, or its type if it has none, without secrets."""
    text = str(error) or type(error).__name__
    return _without_token(without_secrets(f"{server}: {text}"), request)


def _without_token(text: str, request: HttpRequest) -> str:
    """Return a text without the tokens that a request sends, if the other side repeats them."""
    for name, value in request.headers.items():
        if is_secret(name) and value:
            for spelling in (value, repr(value)[1:-1]):
                text = text.replace(spelling, HIDDEN)
    return text


def _split(url: str) -> tuple[str, str]:
    """Return the server of a URL (a socket's path or a base URL), and the URL to request there."""
    if url.startswith("unix:"):
        path, _, rest = url.removeprefix("unix:").partition(":")
        return f"unix:{path}", f"http://localhost{rest}"
    return "/".join(url.split("/", 3)[:3]), url


def _pool(server: str) -> httpcore.ConnectionPool:
    """Return the connection pool of a server."""
    with _lock:
        if server not in _pools:
            path = server.removeprefix("unix:") if server.startswith("unix:") else None
            _pools[server] = httpcore.ConnectionPool(keepalive_expiry=5.0, uds=path)
        return _pools[server]
