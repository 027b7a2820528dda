"""Sends requests of schedulers; connections are kept open for the next."""

from __future__ import annotations

import threading
import time

import httpx

from zwrap.scheduler import HttpRequest, Reply

_clients: dict[str, httpx.Client] = {}
_lock = threading.Lock()


def send(request: HttpRequest) -> Reply:
    """The answer; without status if there was none within the time limit."""
    server, url = _split(request.url)
    deadline = time.monotonic() + request.timeout_s
    try:
        with _client(server).stream(
            request.method,
            url,
            headers=request.headers,
            content=request.body,
            timeout=request.timeout_s,
        ) as response:
            content = b""
            for part in response.iter_bytes():
                content += part
                if time.monotonic() > deadline:
                    raise httpx.ReadTimeout(f"not all of it within {request.timeout_s:g} s")
            text = content.decode("utf-8", errors="replace")
            return Reply(status=response.status_code, output=text)
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        return Reply(status=None, error=f"{server}: {_words(error)}", unsent=True)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return Reply(status=None, error=f"{server}: {_words(error)}")


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__


def _split(url: str) -> tuple[str, str]:
    """The server (a socket's path or a base URL) and what to ask of it."""
    if url.startswith("unix:"):
        path, _, rest = url.removeprefix("unix:").partition(":")
        return f"unix:{path}", f"http://localhost{rest}"
    return "/".join(url.split("/", 3)[:3]), url


def _client(server: str) -> httpx.Client:
    with _lock:
        if server not in _clients:
            path = server.removeprefix("unix:") if server.startswith("unix:") else None
            transport = httpx.HTTPTransport(uds=path)
            # no proxies of the environment: the server is one of the site's
            _clients[server] = httpx.Client(transport=transport, trust_env=False)
        return _clients[server]
