"""Identity of messages: ids, attempts, origins, and the tokens of the jobs that they become."""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Mapping

from zwrap.errors import MessageError
from zwrap.message.content import (
    ATTEMPT_HEADER,
    ID_HEADER,
    ORIGIN_HEADER,
    RECIPE_HEADER,
    REINJECTED_HEADER,
    Message,
    Outgoing,
    marks_recipe,
)
from zwrap.message.jsontext import encode_as

NAMESPACE = uuid.UUID("6f2b44a4-5d0c-5a58-9d5a-2c1d3f0e8a77")
"""Root of all derived message ids."""


LONGEST_ID_BYTES = 255
"""Length of the longest id that is taken over from a header, in bytes."""

DERIVED = 5
"""Version of the UUIDs that are derived from something; fresh ones are random (RFC 9562)."""

LARGEST_ATTEMPT = 10**6
"""Largest number of an attempt that is taken from a header."""


def identity_of(message: Outgoing) -> str:
    """Return the id of a message that is to be sent, as text."""
    return str(message.headers.get(ID_HEADER))


def new_id() -> str:
    """Return a fresh message id: a random UUID (RFC 9562), in half the time of `uuid.uuid4`."""
    text = os.urandom(16).hex()
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-a{text[17:20]}-{text[20:]}"


def _derived(text: str) -> uuid.UUID:
    """Return the name-based UUID (RFC 9562, version 5) of any text.

    That is `uuid.uuid5`, which fails for the name of a file that is not UTF-8 (PEP 383).
    """
    import hashlib  # which loads OpenSSL: 3 ms that no start waits for

    name = NAMESPACE.bytes + text.encode("utf-8", "surrogatepass")
    return uuid.UUID(bytes=hashlib.sha1(name, usedforsecurity=False).digest()[:16], version=5)


def child_id(parent: str, position: int | str) -> str:
    """Return the id of the message at a position among those that handling `parent` produces.

    The id is derived, so handling the same message again produces the same ids.
    """
    return str(_derived(f"{parent}/{position}"))


def recipe_id_of(identity: str) -> str:
    """Return the ID of the recipe that the Dispatcher starts for a request without parameter guid.

    It is derived from the id of the request, so that a repeat starts the same recipe.
    """
    return child_id(identity, "recipe")


def identify(body: object, headers: Mapping[str, object], broker_id: str | None = None) -> str:
    """Return the id of a received message.

    The id is, in this order: that in header `zwrap-id`, or one derived from it if it is longer than
    `LONGEST_ID_BYTES`; one derived from a stable id of the broker; for a recipe message, one
    derived from its content; else a fresh one.
    """
    own = headers.get(ID_HEADER)
    if isinstance(own, str) and own:
        short = len(own) <= LONGEST_ID_BYTES and len(own.encode(errors="backslashreplace"))
        return own if short and short <= LONGEST_ID_BYTES else child_id("long", own)
    if broker_id:
        return child_id("broker", broker_id)
    if marks_recipe(headers):
        return str(_derived(encode_as(body, ordered=True).decode()))
    return new_id()


def is_own_id(message: Message) -> bool:
    """Return True if no other message has the id of a received one, and each delivery of it has.

    False: its sender and its broker gave none, so that it is derived from the content, or fresh.
    """
    if isinstance(message.headers.get(ID_HEADER), str) and message.headers[ID_HEADER]:
        return True
    if message.is_recipe:
        return message.id != identify(message.body, {RECIPE_HEADER: True})
    try:
        return uuid.UUID(message.id).version == DERIVED
    except ValueError:
        return True


def attempt_of(headers: Mapping[str, object]) -> int:
    """Return the number of the attempt; putting a dead letter back starts a new one.

    Raises:
        MessageError: The number in the header is above `LARGEST_ATTEMPT`.
    """
    attempt = headers.get(ATTEMPT_HEADER)
    if isinstance(attempt, int):
        if abs(attempt) <= LARGEST_ATTEMPT:
            return attempt
        raise MessageError(
            f"Header {ATTEMPT_HEADER!r} holds a number that no attempt has; one up to "
            f"{LARGEST_ATTEMPT} is expected."
        )
    return 2 if headers.get(REINJECTED_HEADER) else 1


def digest_of(body: object) -> str:
    """Return the SHA-256 digest of a decoded JSON value, whatever the order of its keys."""
    return _sha256(encode_as(body, ordered=True))


def _sha256(data: bytes) -> str:
    """Return the SHA-256 digest of bytes, as hexadecimal text."""
    import hashlib  # as in `_derived`

    return hashlib.sha256(data).hexdigest()


def origin_of_content(digest: str) -> str:
    """Return the origin of a message that no service of the site has made, by its digest."""
    return f"content-{digest}"


def origin_after(origin: str) -> str:
    """Return the origin of what handling a message of that origin produces."""
    return f"from-{_sha256(origin.encode())}"


def stated_origin(headers: Mapping[str, object]) -> str | None:
    """Return the origin that headers state, which anybody may write; None: they state none."""
    stated = headers.get(ORIGIN_HEADER)
    valid = isinstance(stated, str) and re.fullmatch(r"(content|from)-[0-9a-f]{64}", stated)
    return stated if valid and isinstance(stated, str) else None


def token_from(identity: str, origin: str, number: int) -> str:
    """Return the token of an attempt at what a message with an id and an origin asks for."""
    return f"{_derived(f'{identity}/{origin}').hex}-{number:d}"


def former_token(identity: str, number: int) -> str:
    """Return the token as earlier releases made it, from the id alone."""
    return f"{_derived(identity).hex}-{number:d}"


def token_of(message: Message, proven: str | None = None) -> str:
    """Return the name of the one job that a message may become: its id, its origin, the attempt.

    `proven`: origin that a signature proves. Else it is that of the message's content; for another
    attempt, whose content may be changed, that which its headers state.
    """
    number = attempt_of(message.headers)
    stated = stated_origin(message.headers) if number > 1 else None
    origin = proven or stated or origin_of_content(digest_of(message.body))
    return token_from(message.id, origin, number)
