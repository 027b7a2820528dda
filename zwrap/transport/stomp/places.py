"""Names of queues and topics on ActiveMQ."""

from __future__ import annotations

DEAD = "DLQ"
"""Beginning of the server's dead letter queues, ``DLQ.<queue>`` (individualDeadLetterStrategy)."""


class Places:
    """Names and destinations on a server, where a site's names may begin with a prefix."""

    def __init__(self, prefix: str) -> None:
        self._prefix = f"{prefix}." if prefix else ""

    def name(self, name: str) -> str:
        """Return the name of a queue or topic on the server."""
        return f"{self._prefix}{name}"

    def dead_name(self, queue: str) -> str:
        """Return the name of the dead letter queue of a queue."""
        return f"{DEAD}.{self._prefix}{queue}"

    def queue(self, queue: str) -> str:
        """Return the destination of a queue."""
        return f"/queue/{self._prefix}{queue}"

    def topic(self, topic: str) -> str:
        """Return the destination of a topic."""
        return f"/topic/{self._prefix}{topic}"

    def named(self, destination: str) -> tuple[bool, str]:
        """Return whether a destination is a topic, and the site's name of the topic or queue."""
        kind, _, name = destination.removeprefix("/").partition("/")
        return kind == "topic", name.removeprefix(self._prefix)

    def dead(self, queue: str) -> str:
        """Return the destination of the dead letters of a queue."""
        return f"/queue/{DEAD}.{self._prefix}{queue}"
