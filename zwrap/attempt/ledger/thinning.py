"""One event, and how many of them are kept: `MOST` of an attempt, in `MOST_BYTES` at most.

The first events and the last ones stay. Of those between, milestones of the progress go first, then
what the batch system and the services tell, and last what a person did.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import msgspec

from zwrap.host.printable import well_formed
from zwrap.message.jsontext import decode, encode

MOST = 20
"""Largest number of events of one attempt."""

MOST_BYTES = 1400
"""Largest size of the events of one attempt, as `Event.size` counts it."""

FIRST, LAST = 4, 4
"""Number of the first and of the last events of an attempt that always stay."""

LONGEST_TEXT = 160
"""Length of a text among the facts, in characters; a longer one ends in an ellipsis."""

MOST_FACTS = 8
"""Largest number of facts of one event."""

OVERHEAD = 70
"""Size of a row besides its facts, in bytes: token, time, what, witness, and the database's own."""

ACTION = "person"
"""Fact that marks the action of a person."""

PROGRESS = "progress"
"""What an event is that tells of a milestone of a program."""

RUNNING = "running"
"""What an event is that tells of a run of a job."""

ONCE = frozenset({"taken", "submitted", "refused", "verdict", "sent", "follows"})
"""What can happen to an attempt a few times at most."""


class Event(msgspec.Struct, frozen=True):
    """What happened to an attempt or a request."""

    token: str
    """Token of the attempt, or id of the request."""
    at: float
    """Time at which the ledger learned it, in seconds since the epoch."""
    what: str
    witness: str
    """Who says so: a service, the cluster, the wrapper, or a person as user@host."""
    text: str = "{}"
    """Facts, as JSON text."""

    @classmethod
    def told(
        cls, token: str, at: float, what: str, witness: str, facts: Mapping[str, object]
    ) -> Event:
        """Return an event with facts, of which those that are not known (None) are left out."""
        who = well_formed(witness.replace("\0", ""))[:80]
        return cls(token, at, well_formed(what.replace("\0", ""))[:40], who, encode_facts(facts))

    @property
    def facts(self) -> dict[str, object]:
        """The facts."""
        facts = decode(self.text.encode(), "facts of an event")
        return facts if isinstance(facts, dict) else {}

    @property
    def may_repeat(self) -> bool:
        """True if there may be any number of such events."""
        return self.what not in ONCE

    @property
    def size(self) -> int:
        """Size of its row, in bytes, about."""
        return OVERHEAD + len(self.text)

    def says_the_same(self, other: Event) -> bool:
        """Return True if another event tells nothing else than this one."""
        return (self.what, self.text) == (other.what, other.text) and ACTION not in self.facts


def encode_facts(facts: Mapping[str, object]) -> str:
    """Return facts as short JSON text: without those that are not known (None), texts cut."""
    known = [(name, value) for name, value in facts.items() if value is not None]
    short = {name[:40]: _short(value) for name, value in known[:MOST_FACTS]}
    return encode(short).decode()


def thinned(events: Sequence[Event]) -> tuple[list[Event], list[Event]]:
    """Return which of the events of an attempt are kept, and which are not; all oldest first."""
    between = events[FIRST : max(FIRST, len(events) - LAST)]
    left, size = len(events), sum(event.size for event in events)
    dropped: list[Event] = []
    for event in sorted(between, key=_rank):
        if left <= MOST and size <= MOST_BYTES:
            break
        dropped.append(event)
        left, size = left - 1, size - event.size
    return [event for event in events if event not in dropped], dropped


def _rank(event: Event) -> tuple[int, float]:
    """Return the place of an event among those that go, the first one to go first."""
    if event.what == PROGRESS:
        return 0, event.at
    return (2 if ACTION in event.facts else 1), event.at


def _short(value: object) -> object:
    """Return a fact that is a number, a truth value or a short text."""
    if isinstance(value, (bool, int)):
        return value if abs(value) < 2**53 else str(value)[:LONGEST_TEXT]
    if isinstance(value, float):
        return round(value, 3) if math.isfinite(value) else None
    text = well_formed(value if isinstance(value, str) else repr(value))
    return text if len(text) <= LONGEST_TEXT else f"{text[: LONGEST_TEXT - 3]}..."
