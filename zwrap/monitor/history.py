"""What happened to a job, to the jobs of a run of a recipe, or to those of a request, in order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from zwrap.attempt.ledger.ledger import Ledger
from zwrap.attempt.ledger.requests import Request
from zwrap.attempt.ledger.thinning import Event
from zwrap.attempt.record import Attempt
from zwrap.errors import UnknownNameError
from zwrap.monitor.finding import one_of, recipe_of

SENT = "request sent"
"""What an event is that a sender tells of itself."""


class Entry(NamedTuple):
    """An event, and the attempt to which it happened; None: to a request."""

    event: Event
    attempt: Attempt | None


def history(ledger: Ledger, given: str) -> list[Entry]:
    """Return the events of a job, a run of a recipe or a request, oldest first.

    Of attempts of an earlier release there is what their rows tell.

    Args:
        ledger: The ledger.
        given: A job as `one_of` takes it, the beginning of the ID of a recipe, or the id of a
            request. That comes last: it is the sender's choice, and hides no job or recipe.

    Raises:
        MessageError: Several jobs or recipes may be meant.
        UnknownNameError: There is none.
    """
    requests, attempts = _meant(ledger, given)
    known = ledger.events.of_all([each.token for each in attempts])
    entries = [
        Entry(event, attempt)
        for attempt in attempts
        for event in known.get(attempt.token) or _of_row(attempt)
    ]
    for identity in dict.fromkeys(request.id for request in requests):
        entries += [Entry(event, None) for event in ledger.events.of(identity)]
    first = {request.id: request for request in requests}.values()
    entries += [Entry(_sent(request), None) for request in first if request.sent]
    return sorted(entries, key=lambda entry: entry.event.at)


def _meant(ledger: Ledger, given: str) -> tuple[list[Request], list[Attempt]]:
    """Return requests and attempts that a name means: a job, else a recipe, else a request."""
    try:
        attempt = one_of(ledger, given)
    except UnknownNameError:
        recipe = recipe_of(ledger, given)
        if recipe is not None and (attempts := ledger.of_recipes([recipe])):
            return ledger.requests.of_recipe(recipe), attempts
        if requests := ledger.requests.of(given):
            return requests, ledger.of_recipes([request.recipe_id for request in requests])
        raise
    asked = ledger.requests.of_recipe(attempt.recipe_id) if attempt.recipe_id else []
    return asked, [attempt]


def _sent(request: Request) -> Event:
    """Return the event of a request that was sent, as its sender tells it."""
    who = "@".join(each for each in (request.user, request.host) if each)
    facts: dict[str, object] = {
        "directory": request.directory, "recipes": ", ".join(request.recipes) or None
    }  # fmt: skip
    return Event.told(request.id, request.sent or 0.0, SENT, who, facts)


def _of_row(attempt: Attempt) -> Sequence[Event]:
    """Return the events that can be told from the row of an attempt of an earlier release."""
    facts: dict[str, object] = {"cluster": attempt.cluster}
    found = [Event.told(attempt.token, attempt.created, "taken", "Submitter", facts)]
    if attempt.ended:
        ended: dict[str, object] = {"state": attempt.seen_state, "reason": attempt.seen_reason}
        found.append(Event.told(attempt.token, attempt.ended, "ended", "cluster", ended))
    if attempt.outcome and attempt.seen:
        outcome: dict[str, object] = {"outcome": attempt.outcome}
        witness = attempt.witness or "none"
        found.append(Event.told(attempt.token, attempt.seen, "verdict", witness, outcome))
    return found
