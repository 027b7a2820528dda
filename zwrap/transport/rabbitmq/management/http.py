"""The HTTP client of RabbitMQ's management API: requests, refusals, passwords.

Names in paths are quoted, so that the vhost ``/`` works everywhere.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import secrets
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Self, TypeVar
from urllib.parse import quote

import httpx

from zwrap.configuration.settings import RabbitMQAPISettings
from zwrap.configuration.site import Configuration
from zwrap.errors import ConfigurationError, MessageError, TransportError, short
from zwrap.host.hiding import without_secrets
from zwrap.transport.rabbitmq.management.spec import Spec, SpecError

log = logging.getLogger(__name__)

TIMEOUT_S = 30.0
"""Default of the longest wait for an answer, in seconds."""

S = TypeVar("S", bound=Spec)

Parameters = Mapping[str, str | int | float | bool | None]
"""Query parameters of a request."""


AMQP_PORT = 5672
"""Port of AMQP unless the site says another (iana.org/assignments/service-names-port-numbers)."""


def credentials_from(configuration: Configuration) -> RabbitMQAPISettings:
    """Return the settings of plugin `rabbitmqapi`; ConfigurationError if it is not active.

    They come from ``configuration.rabbitmqapi``, so that a configuration of python-zocalo will do.
    """
    given = configuration.rabbitmqapi
    if not given:
        raise ConfigurationError(
            "There are no RabbitMQ API credentials configured in your environment: a section with "
            "'plugin: rabbitmqapi' must be active."
        )
    return RabbitMQAPISettings(
        plugin="rabbitmqapi",
        base_url=given["base_url"],
        username=given["username"],
        password=given["password"],
        vhost=given.get("vhost", "/"),
    )


def amqp_port(configuration: Configuration) -> int:
    """Return the first port of plugin `pika`, else AMQP's own."""
    settings = getattr(configuration, "pika", None)
    port = settings.get("port") if isinstance(settings, Mapping) else None
    first = str(port).partition(",")[0].strip()
    return int(first) if first.isdecimal() else AMQP_PORT


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

    amqp_port: int = AMQP_PORT
    """Port on which the server should listen for AMQP."""

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
                instance.amqp_port = amqp_port(zc)
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
            raise self.unreachable(without_secrets(sentence)) from None

    def unreachable(self, sentence: str) -> Exception:
        """Return the error of a server that does not answer."""
        return TransportError(sentence)

    def refusal(self, sentence: str, response: httpx.Response) -> Exception:
        """Return the error of a request that the server refused."""
        del response
        return MessageError(sentence)

    def _read(self, kind: type[S], *parts: str | None, end: bool = False) -> S:
        """Return the value at an endpoint; MessageError if the server refuses."""
        [value] = self._values(kind, [self._answer(*parts, end=end)], parts)
        return value

    def _read_all(self, kind: type[S], *parts: str | None, end: bool = False) -> list[S]:
        """Return the values at an endpoint; MessageError if the server refuses."""
        return self._values(kind, self._answer(*parts, end=end), parts)

    def _answer(self, *parts: str | None, end: bool = False) -> object:
        """Return the content of an endpoint; MessageError if the server refuses."""
        response = self.get(path(*parts, end=end))
        self._check(response)
        try:
            content: object = response.json()
        except ValueError as error:
            raise self._unexpected(parts, error) from None
        return content

    def _values(self, kind: type[S], answer: object, parts: Sequence[str | None]) -> list[S]:
        """Return the values that an answer holds; MessageError if it holds something else."""
        if not isinstance(answer, list) or not all(isinstance(each, dict) for each in answer):
            raise self._unexpected(parts, f"{short(answer)} instead of a {kind.__name__}")
        try:
            return [kind(**each) for each in answer]
        except SpecError as error:
            raise self._unexpected(parts, error) from None

    def _unexpected(self, parts: Sequence[str | None], what: object) -> MessageError:
        """Return the error of an answer that makes no sense."""
        sentence = f"{self._url}/{path(*parts)} answered something unexpected: {what}."
        return MessageError(without_secrets(sentence))

    def _write(
        self,
        method: str,
        spec: Spec,
        *parts: str,
        leave_out: tuple[str, ...],
        end: bool = False,
    ) -> None:
        """Send a value to an endpoint, without what its path tells and what the server adds."""
        send = self.put if method == "PUT" else self.post
        self._check(send(path(*parts, end=end), json=spec.content(leave_out, defaults=False)))

    def _check(self, response: httpx.Response) -> None:
        """Raise MessageError, with the server's reason, if the server refused a request."""
        if response.is_success:
            return
        try:
            answer = response.json()
            reason = answer.get("reason") or answer.get("error") or response.reason_phrase
        except (ValueError, AttributeError):
            reason = response.reason_phrase
        sentence = (
            f"The RabbitMQ API refused {response.request.method} {response.url.path}: "
            f"{response.status_code} {reason}."
        )
        raise self.refusal(sentence, response)


def path(*parts: str | None, end: bool = False) -> str:
    """Return the path of an endpoint, each part quoted; `end`: with a slash after the name.

    The server takes both forms. The slash is where python-zocalo has it, for rules of proxies.
    """
    given = [quote(part, safe="@:") for part in parts if part is not None]
    return "/".join([*given, ""] if end and len(given) > 1 else given)
