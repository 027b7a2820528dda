"""Messages that are sent together, with the ids and signatures that a repeat repeats."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from msgspec.structs import replace

from zwrap.message.content import ID_HEADER, Outgoing, trace_of
from zwrap.message.identity import child_id, new_id


class Unit:
    """Messages that are sent when the unit ends without an exception.

    Args:
        parent: Id of the message whose handling produces them; None: there is none.
        sign: Function that signs a message (`zwrap.transport.signing`); None: they are not signed.
        trace: Headers of a trace, for messages that have none of their own.
        begin: Position of the first message among all that handling the parent produces.
    """

    def __init__(
        self,
        parent: str | None,
        sign: Callable[[Outgoing], Outgoing] | None = None,
        trace: Mapping[str, object] | None = None,
        begin: int = 0,
    ) -> None:
        self.outgoing: list[Outgoing] = []
        self._parent = parent or new_id()
        self._sign = sign
        self._trace = trace or {}
        self._begin = begin

    def send(self, *messages: Outgoing) -> None:
        """Add messages; one without an id gets an id derived from the delivery and its position.

        Only such a message is signed: an id that it had before may be anybody's.
        """
        for message in messages:
            traced = message
            if self._trace and not trace_of(message.headers):
                traced = replace(message, headers={**message.headers, **self._trace})
            position = self._begin + len(self.outgoing)
            named = traced.with_id(child_id(self._parent, position))
            if self._sign and ID_HEADER not in message.headers:
                named = self._sign(named)
            self.outgoing.append(named)
