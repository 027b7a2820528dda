"""ActiveMQ's management over Jolokia, the only way to list queues and to count their messages.

Plugin `jmx` of the site configures it, as for python-zocalo's dlq_check. Source:
jolokia.org/reference/html/protocol.html.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import httpx
import msgspec

from zwrap.configuration.site import Configuration
from zwrap.errors import ConfigurationError, TransportError


class Jolokia(msgspec.Struct, frozen=True, kw_only=True):
    """Address and credentials of Jolokia."""

    host: str
    port: int
    base_url: str = "api/jolokia"
    username: str = ""
    password: str = ""
    broker: str = "localhost"
    """Name of the broker itself (``brokerName`` in activemq.xml)."""

    def sizes(self, names: str = "*") -> dict[str, int]:
        """Return the number of waiting messages of each queue whose name matches a pattern.

        Raises TransportError if the management cannot be asked.
        """
        pattern = self._bean(names)
        found = self._read(pattern, "QueueSize,InFlightCount")
        if "*" not in names:
            found = {pattern: found} if found else {}
        return {
            _name(bean): max(0, values["QueueSize"] - values["InFlightCount"])
            for bean, values in msgspec.convert(found, dict[str, dict[str, int]]).items()
        }

    def consumers(self, queue: str) -> int:
        """Return the number of receivers of a queue; 0 if there is no such queue."""
        found = self._read(self._bean(queue), "ConsumerCount")
        if isinstance(found, dict):
            found = found.get("ConsumerCount")
        return found if isinstance(found, int) else 0

    def _bean(self, names: str) -> str:
        """Return the name of the managed objects of queues."""
        return (
            f"org.apache.activemq:type=Broker,brokerName={self.broker},"
            f"destinationType=Queue,destinationName={_escaped(names)}"
        )

    def _read(self, bean: str, attributes: str) -> object:
        """Return the attributes of a managed object; an empty object if it does not exist."""
        answer = self.answer(bean, attributes)
        if answer["status"] == 404:
            return {}
        if answer["status"] != 200:
            raise TransportError(
                f"ActiveMQ's management at {self._place} refuses: {answer.get('error')}."
            )
        return answer.get("value")

    def answer(self, bean: str, attributes: str | None = None) -> dict[str, Any]:
        """Return the whole answer on a managed object, or on attributes of it.

        Raises TransportError if the management cannot be asked.
        """
        parts = [
            self._place,
            "read",
            quote(bean, safe=":=,*"),
            *([attributes] if attributes else []),
        ]
        try:
            response = httpx.get("/".join(parts), auth=(self.username, self.password), timeout=10)
            response.raise_for_status()
            answer: dict[str, Any] = msgspec.json.decode(response.content, type=dict[str, Any])
            msgspec.convert(answer, _Answer)
        except (httpx.HTTPError, msgspec.MsgspecError) as error:
            reason = str(error) or type(error).__name__
            raise TransportError(
                f"ActiveMQ's management at {self._place} cannot be asked: {reason}."
            ) from None
        return answer

    @property
    def _place(self) -> str:
        """URL of the management."""
        return f"http://{self.host}:{self.port}/{self.base_url.strip('/')}"


class _Answer(msgspec.Struct):
    """What each answer holds."""

    status: int
    value: object = None
    error: str | None = None


def jolokia_from(configuration: Configuration | None) -> Jolokia:
    """Return the configured management; ConfigurationError if there is none."""
    given = configuration.site.jmx if configuration is not None else None
    if given is None:
        raise ConfigurationError(
            "ActiveMQ tells the number of messages in its queues over Jolokia only: add a section "
            "of plugin 'jmx' (host, port, base_url, username, password) to the site configuration."
        )
    return Jolokia(
        host=given.host,
        port=given.port,
        base_url=given.base_url,
        username=given.username,
        password=given.password,
        broker=given.broker,
    )


def jolokia_of(jmx: Mapping[str, Any] | None) -> Jolokia:
    """Return the management in ``zc.jmx``; ConfigurationError if that is None."""
    if not jmx:
        raise ConfigurationError(
            "There are no JMX credentials configured in your environment: a section with "
            "'plugin: jmx' must be active."
        )
    return Jolokia(**{key: jmx[key] for key in Jolokia.__struct_fields__ if key in jmx})


def _escaped(name: str) -> str:
    """Return a name for a path of Jolokia."""
    return name.replace("!", "!!").replace("/", "!/")


def _name(bean: str) -> str:
    """Return the queue of a managed object."""
    pairs = dict(pair.partition("=")[::2] for pair in bean.partition(":")[2].split(","))
    return pairs["destinationName"]
