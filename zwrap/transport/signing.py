"""Signatures of services: which messages follow from which, and that zwrap itself made them.

Anybody may send a message with any id. A service signs what it sends, so that a Submitter tells its
own id of a message from the same id that another sender used: the signature covers the id, the
content, and the origin, which is derived from the content that the service handled. When a message
is handled again, what follows has the same ids and origins, even if a recipe has changed meanwhile.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence
from typing import NamedTuple

from msgspec.structs import replace

from zwrap.errors import ConfigurationError
from zwrap.host.seldom import Seldom
from zwrap.host.sitekey import SiteKey
from zwrap.message.content import (
    ATTEMPT_HEADER,
    FOLLOWS_HEADER,
    ORIGIN_HEADER,
    REINJECTED_HEADER,
    SIGNATURE_HEADER,
    Message,
    Outgoing,
)
from zwrap.message.identity import (
    digest_of,
    identity_of,
    origin_after,
    origin_of_content,
    stated_origin,
)
from zwrap.message.jsontext import decode, encode

log = logging.getLogger(__name__)

_OF_OTHER_ATTEMPTS = (ATTEMPT_HEADER, REINJECTED_HEADER)

MESSAGE, ATTEMPT = "message", "attempt"
"""First of the texts that are signed, so that a signature is good for nothing else."""


class Origin(NamedTuple):
    """The origin of a received message."""

    text: str
    digest: str
    """Digest of the content of the message."""
    is_proven: bool
    """True if a service of the site has signed id, origin and content."""


class Signer:
    """Signer of the messages of a service, with the key of the site.

    Without a usable key messages are not signed, and none counts as signed; that is logged.
    """

    def __init__(self, key: SiteKey) -> None:
        self._key = key
        self._warnings = Seldom()

    def origin(self, message: Message) -> Origin:
        """Return the origin of a message: what its signature proves, else its own content."""
        digest = digest_of(message.body)
        stated = stated_origin(message.headers)
        signature = message.headers.get(SIGNATURE_HEADER)
        if stated and signature and self._holds(signature, MESSAGE, message.id, stated, digest):
            return Origin(stated, digest, is_proven=True)
        if signature:
            self._tell_unproven(message)
        return Origin(origin_of_content(digest), digest, is_proven=False)

    def after(self, parent: Message, source: str) -> Callable[[Outgoing], Outgoing]:
        """Return the function that signs a message, which has an id derived from its parent's.

        `source`: queue from which the parent came. Services of other queues make other messages of
        it, if it is sent to these, too.
        """
        return self.after_all([(parent, source)])

    def after_all(self, parents: Sequence[tuple[Message, str]]) -> Callable[[Outgoing], Outgoing]:
        """Return the function that signs what follows from several messages, each with its queue.

        The origin covers all of them, in their order.
        """

        @functools.cache
        def origin() -> str:
            texts = (f"{self.origin(parent).text}/{source}" for parent, source in parents)
            return origin_after(",".join(texts))

        def signed(message: Outgoing) -> Outgoing:
            return message if message.topic else self._signed(message, origin())

        return signed

    def next_attempt(self, identity: str, origin: str, number: int) -> str | None:
        """Return the proof that the next attempt at a step brings along; None without a usable key.

        Args:
            identity: Id of the message that asks for the attempt.
            origin: Its origin.
            number: Number of the next attempt.
        """
        try:
            return self._key.sign(ATTEMPT, identity, origin, f"{number:d}")
        except ConfigurationError as error:
            self._tell_unusable(error)
            return None

    def is_next_attempt(self, message: Message, origin: str, number: int) -> bool:
        """Return True if a message brings the proof that `next_attempt` returned."""
        proof = message.headers.get(FOLLOWS_HEADER)
        return bool(proof) and self._holds(proof, ATTEMPT, message.id, origin, f"{number:d}")

    def _signed(self, message: Outgoing, origin: str) -> Outgoing:
        """Return a message with its origin, signed; without a usable key as it is."""
        try:
            digest = digest_of(decode(encode(message.message)))  # as the receiver will decode it
        except Exception:  # it cannot be sent, as the transport will tell
            return message
        try:
            signature = self._key.sign(MESSAGE, identity_of(message), origin, digest)
        except ConfigurationError as error:
            self._tell_unusable(error)
            return message
        proof: dict[str, object] = {ORIGIN_HEADER: origin, SIGNATURE_HEADER: signature}
        return replace(message, headers={**message.headers, **proof})

    def _holds(self, signature: object, *parts: str) -> bool:
        """Return True if a signature is right; False as well without a usable key."""
        try:
            return self._key.holds(signature, *parts)
        except ConfigurationError as error:
            self._tell_unusable(error)
            return False

    def _tell_unusable(self, error: ConfigurationError) -> None:
        """Log now and then that there is no usable key."""
        if self._warnings.due("key"):
            log.warning("Messages are neither signed nor count as signed: %s", error)

    def _tell_unproven(self, message: Message) -> None:
        """Log now and then that a signature is wrong, as it is after a change by hand."""
        is_first = not any(message.headers.get(name) for name in _OF_OTHER_ATTEMPTS)
        if is_first and self._warnings.due("signature"):
            log.warning(
                "The signature of message %s is not that of this site's key for its content, so "
                "it counts as a message from outside. Services on several hosts need one key "
                "(section security, key 'key_file').",
                message.id,
            )
