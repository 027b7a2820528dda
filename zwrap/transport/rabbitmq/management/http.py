"""The HTTP client of RabbitMQ's management API: requests, refusals, passwords.

Names in paths are quoted, so that the vhost ``/`` works everywhere.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import secrets
import urllib.request
from collections.abc import Mapping
from typing import Self, TypeVar
from urllib.parse import quote

import httpx
import msgspec

from zwrap.configuration.settings import RabbitMQAPISettings
from zwrap.configuration.site import Configuration
from zwrap.errors import ConfigurationError, MessageError, TransportError
from zwrap.host.hiding import without_secrets
from zwrap.transport.rabbitmq.management.models import Spec

log = logging.getLogger(__name__)

TIMEOUT_S = 30.0
"""Default of the longest wait for an answer, in seconds."""

T = TypeVar("T")

Parameters = Mapping[str, str | int | float | bool | None]
"""Query parameters of a request."""


def credentials_from(configuration: Configuration) -> RabbitMQAPISettings:
    """Return the settings of plugin `rabbitmqapi`; ConfigurationError if it is not active."""
    settings = configuration.site.rabbitmqapi
    if settings is None:
        raise ConfigurationError(
            "There are no RabbitMQ API credentials configured in your environment: a section with "
            "'plugin: rabbitmqapi' must be active."
        )
    return settings


def _urls(settings: RabbitMQAPISettings) -> list[str]:
    """Return the URLs of the servers, in the order in which they are tried."""
    return [url.strip() for url in settings.base_url.split(",")]


def http_api_request(zc: Configuration, api_path: str) -> urllib.request.Request:
    """Return a request to the API, with the credentials of plugin `rabbitmqapi`.

    `api_path`, such as ``/queues``, is appended to the plugin's `base_url`. Open the request with
    ``urllib.request.urlopen``.
    """
    given = credentials_from(zc)
    credentials = f"{given.username}:{given.password}".encode()
    return urllib.request.Request(  # noqa: S310  (the scheme is the site's own)
        f"{_urls(given)[0]}{api_path}",
        headers={"Authorization": f"Basic {base64.b64encode(credentials).decode()}"},
    )


def hash_password(passwd: str, salt: str | None = None) -> str:
    """Return the hash of a password in RabbitMQ's form.

    The form is base64 of a salt of four bytes and the SHA-256 of salt and password. `salt`: an
    earlier hash, whose salt is used again. Source: www.rabbitmq.com/passwords.html.
    """
    first = base64.b64decode(salt)[:4] if salt else secrets.token_bytes(4)
    digest = hashlib.sha256(first + passwd.encode("utf-8")).digest()
    return base64.b64encode(first + digest).decode()


class Client:
    """A connection to the API. `url` ends in ``/api``."""

    def __init__(self, url: str, user: str, password: str) -> None:
        self._url = url.rstrip("/")
        self._client = httpx.Client(auth=(user, password), timeout=TIMEOUT_S)

    @classmethod
    def from_zocalo_configuration(cls, zc: Configuration) -> Self:
        """Connect to the first configured server that answers; TransportError if none does."""
        settings = credentials_from(zc)
        for url in _urls(settings):
            instance = cls(url, settings.username, settings.password)
            try:
                instance.get("health/checks/alarms")
            except TransportError as error:
                log.warning("%s", error)
                instance.close()
            else:
                return instance
        places = without_secrets(", ".join(_urls(settings)))
        raise TransportError(f"No RabbitMQ API answers at {places}.")

    def close(self) -> None:
        """End the connection."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def get(
        self, endpoint: str, params: Parameters | None = None, timeout: float | None = None
    ) -> httpx.Response:
        """Send a GET request to an endpoint below ``/api/``; `timeout` is in seconds."""
        return self._request("GET", endpoint, params=params, timeout=timeout)

    def put(
        self,
        endpoint: str,
        params: Parameters | None = None,
        json: object = None,
        timeout: float | None = None,
    ) -> httpx.Response:
        """Send a PUT request with a JSON body."""
        return self._request("PUT", endpoint, params=params, json=json, timeout=timeout)

    def post(
        self,
        endpoint: str,
        data: Mapping[str, object] | None = None,
        json: object = None,
        timeout: float | None = None,
    ) -> httpx.Response:
        """Send a POST request with a JSON body, or a form (`data`)."""
        return self._request("POST", endpoint, data=data, json=json, timeout=timeout)

    def delete(
        self, endpoint: str, params: Parameters | None = None, timeout: float | None = None
    ) -> httpx.Response:
        """Send a DELETE request to an endpoint."""
        return self._request("DELETE", endpoint, params=params, timeout=timeout)

    def _request(
        self,
        method: str,
        endpoint: str,
        *,
        params: Parameters | None = None,
        data: Mapping[str, object] | None = None,
        json: object = None,
        timeout: float | None,
    ) -> httpx.Response:
        """Send a request; TransportError if the server cannot be reached."""
        url = f"{self._url}/{endpoint}"
        timeout = TIMEOUT_S if timeout is None else timeout
        try:
            return self._client.request(
                method, url, params=params, data=data, json=json, timeout=timeout
            )
        except httpx.HTTPError as error:
            sentence = f"The RabbitMQ API at {url} cannot be used: {error}."
            raise TransportError(without_secrets(sentence)) from None

    def _read(self, kind: type[T], *parts: str | None) -> T:
        """Return the typed answer of an endpoint; MessageError if the server refuses."""
        response = self.get(path(*parts))
        check(response)
        try:
            return msgspec.convert(response.json(), kind, strict=False)
        except (ValueError, msgspec.ValidationError) as error:
            sentence = f"{response.url} answered something unexpected: {error}."
            raise MessageError(without_secrets(sentence)) from None

    def _write(self, method: str, spec: Spec, *parts: str, leave_out: tuple[str, ...]) -> None:
        """Send a value to an endpoint, without the fields that its path tells."""
        body = {k: v for k, v in msgspec.to_builtins(spec).items() if k not in leave_out}
        send = self.put if method == "PUT" else self.post
        check(send(path(*parts), json=body))


def path(*parts: str | None) -> str:
    """Return the path of an endpoint, each part quoted."""
    return "/".join(quote(part, safe="") for part in parts if part is not None)


def check(response: httpx.Response) -> None:
    """Raise MessageError, with the server's reason, if the server refused a request."""
    if response.is_success:
        return
    try:
        answer = response.json()
        reason = answer.get("reason") or answer.get("error") or response.reason_phrase
    except (ValueError, AttributeError):
        reason = response.reason_phrase
    raise MessageError(
        f"The RabbitMQ API refused {response.request.method} {response.url.path}: "
        f"{response.status_code} {reason}."
    )
