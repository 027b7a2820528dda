"""``zocalo.util.jmxstats``: ActiveMQ's management, by names of managed objects.

An attribute of `JMXAPI` begins the name of an object, further attributes continue it, and a call
reads it: ``JMXAPI(zc).java.lang(type="Memory")`` is the object ``java.lang:type=Memory``.
"""

from __future__ import annotations

from typing import Any

from zwrap.configuration.site import Configuration
from zwrap.transport.stomp.jolokia import Jolokia, jolokia_of


class JMXAPIPath:
    """The beginning of the name of a managed object."""

    def __init__(self, path: str, jolokia: Jolokia) -> None:
        self._path = path
        self._jolokia = jolokia

    def __repr__(self) -> str:
        return self._path

    def __getattr__(self, name: str) -> JMXAPIPath:
        if name.startswith("__"):
            raise AttributeError(name)
        return JMXAPIPath(f"{self._path}.{name}", self._jolokia)

    def __call__(self, attribute: str | None = None, **properties: str) -> dict[str, Any]:
        """Return Jolokia's whole answer: ``value`` holds what was asked for, ``status`` is 200.

        Args:
            attribute: The attribute to read; None: all of the object.
            properties: The properties of the object's name, in their order.

        Raises:
            TransportError: The management cannot be asked.
        """
        given = ",".join(f"{key}={value}" for key, value in properties.items())
        return self._jolokia.answer(f"{self._path}:{given}", attribute)


class JMXAPI:
    """Access to the managed objects of the ActiveMQ in plugin `jmx`."""

    def __init__(self, zc: Configuration) -> None:
        """Take address and credentials; ConfigurationError without them."""
        self._jolokia = jolokia_of(zc.jmx)

    def __getattr__(self, name: str) -> JMXAPIPath:
        if name.startswith("__"):
            raise AttributeError(name)
        return JMXAPIPath(name, self._jolokia)
