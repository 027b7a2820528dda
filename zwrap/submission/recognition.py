"""Recognition of messages: does one ask for the attempt of an earlier message, or for a new one?

A message is recognized by its id together with its origin (`zwrap.transport.signing`). Two senders
that use one id have two origins, so that both get their jobs, in whatever order they arrive:

* What a service of the site has signed is the same attempt as before, even if a recipe that was
  edited meanwhile gave it another content.
* Any other first message is the same only with the same content.
* Another attempt at a step states the origin of the first one. That it follows from what was
  submitted is proven by what the Submitter gave that job. It is the same attempt as before only
  with the same proof and content, limits apart; else it has a token of its own.

Rows of the ledger that an earlier release wrote have tokens made of the id alone, and no digest of
the content; they are the attempt of any message with that id.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from zwrap.attempt.ledger.ledger import Ledger
from zwrap.attempt.retry import RETRIED, edited, step_in, without_cluster
from zwrap.errors import MessageError
from zwrap.message.content import Message
from zwrap.message.identity import (
    attempt_of,
    digest_of,
    former_token,
    origin_of_content,
    stated_origin,
    token_from,
)
from zwrap.transport.signing import Origin, Signer

NEXT = "next attempt"
"""Mark in the digest of a message that is proven to be the next attempt, which no other has."""


class Recognized(NamedTuple):
    """The attempt for which a message asks."""

    token: str
    origin: str
    """Origin that the next attempt states."""
    digest: str
    """Digest of the content of the message."""
    follows: str | None
    """Proof that the next attempt brings along; None: there is no key."""


class _Candidates(NamedTuple):
    """The tokens that the attempt of a message may have in the ledger."""

    identity: str
    number: int
    """Number of the attempt."""
    origin: str
    """Origin by which the message goes."""
    received: Origin
    stated: str | None
    digest: str
    """Digest of the content by which messages are compared."""

    @property
    def own(self) -> str:
        """Token by the origin of the message."""
        return token_from(self.identity, self.origin, self.number)

    @property
    def by_content(self) -> str:
        """Token of the same message if it came without its signature before."""
        return token_from(self.identity, origin_of_content(self.received.digest), self.number)

    @property
    def by_statement(self) -> str:
        """Token of the same message if its signature was proven elsewhere, by another key."""
        return token_from(self.identity, self.stated or self.origin, self.number)

    @property
    def apart(self) -> str:
        """Token of another content under the number of an attempt; no other message has it."""
        return token_from(self.identity, f"{self.origin}/{self.digest}", self.number)

    @property
    def former(self) -> str:
        """Token in a ledger of an earlier release."""
        return former_token(self.identity, self.number)

    @property
    def former_before(self) -> str:
        """Token of the attempt before this one in a ledger of an earlier release."""
        return former_token(self.identity, self.number - 1)

    def all(self) -> tuple[str, ...]:
        """Return all tokens that are looked up."""
        first = self.own, self.by_content, self.by_statement, self.former
        return first if self.number <= 1 else (*first, self.apart, self.former_before)


class Recognition:
    """Recognition of messages by a ledger, and by the key of the site."""

    def __init__(self, ledger: Ledger, signer: Signer) -> None:
        self._ledger = ledger
        self._signer = signer

    def attempts(self, messages: Sequence[Message]) -> list[Recognized | MessageError]:
        """Return the attempt for which each message asks, or why it can be none.

        Raises:
            OutageError: The ledger cannot be used now.
        """
        found = [self._candidates(message) for message in messages]
        tokens = {token for each in found if isinstance(each, _Candidates) for token in each.all()}
        rows = self._ledger.known(sorted(tokens))
        known: dict[str, str | None] = {token: row.digest for token, row in rows.items()}
        attempts: list[Recognized | MessageError] = []
        for each in found:
            if isinstance(each, _Candidates):
                token = _token(each, known)
                known.setdefault(token, each.digest)
                follows = self._signer.next_attempt(each.identity, each.origin, each.number + 1)
                attempts.append(Recognized(token, each.origin, each.digest, follows))
            else:
                attempts.append(each)
        return attempts

    def _candidates(self, message: Message) -> _Candidates | MessageError:
        """Return the tokens that the attempt of a message may have."""
        try:
            number = attempt_of(message.headers)
        except MessageError as error:
            return error
        received = self._signer.origin(message)
        stated = stated_origin(message.headers)
        by_hand = stated if number > 1 else None
        origin = received.text if received.is_proven else by_hand or received.text
        digest = received.digest
        if number > 1 and self._signer.is_next_attempt(message, origin, number):
            digest = digest_of([NEXT, _as_asked(message)])
        elif number > 1 and not stated:  # perhaps that of a job of an earlier release
            digest = digest_of(_as_asked(message))
        return _Candidates(message.id, number, origin, received, stated, digest)


def _as_asked(message: Message) -> object:
    """Return the content of a message without what wrapper or Watcher change for the next attempt.

    If a verdict cannot be written, both may ask for the next attempt, each by what it knows of the
    end; that is one attempt all the same. A wrapper of an earlier release does not know the
    cluster.
    """
    body = message.body
    try:
        body = without_cluster(body, message.headers)
        asked = edited(body, dict.fromkeys(RETRIED, ""))
        step = step_in(asked)
    except MessageError:  # nothing in it can be changed
        return body
    parameters = step.get("job_parameters", {})
    if isinstance(parameters, dict):
        parameters.pop("timeout", None)
        step["job_parameters"] = parameters
    return asked


def _token(each: _Candidates, known: Mapping[str, str | None]) -> str:
    """Return the token of the attempt; `known`: token of each known attempt to its digest.

    A digest is None in a row of an earlier release.
    """
    digest = each.digest
    if each.former in known and known[each.former] in (None, digest):
        return each.former
    if each.number <= 1 and each.received.is_proven and each.own in known:
        return each.own
    for token in (each.by_content, each.by_statement):
        if known.get(token) == digest:
            return token
    if each.number <= 1:
        return each.own
    follows_former = each.stated is None and each.former_before in known
    wanted = each.former if follows_former else each.own
    return wanted if known.get(wanted, digest) in (None, digest) else each.apart
