"""Which event a change of an attempt's row is."""

from __future__ import annotations

from collections.abc import Mapping

from zwrap.attempt.ledger.thinning import PROGRESS, Event
from zwrap.attempt.record import (
    CANCELLED,
    GIVEN_UP,
    REJECTED,
    SUBMITTED,
    UNANSWERED,
    WAITING,
    Attempt,
    Sighting,
)
from zwrap.attempt.verdict import Verdict
from zwrap.job import Outcome, State

SUBMITTER, WATCHER, CLUSTER, WRAPPER = "Submitter", "Watcher", "cluster", "wrapper"
"""Witnesses besides persons."""

STEP_S = 1e-5
"""Difference of the times of events that are learned together, by which they keep their order."""

_WORDS = {SUBMITTED: "submitted", WAITING: "held", REJECTED: "refused", UNANSWERED: "unanswered"}
"""State of an attempt to what has happened when it is written."""

_TOLD = frozenset({"state", "reason", "stalled", "ended"})
"""Columns whose changes may be events."""

_FINAL = frozenset(state.value for state in State if state.is_final)


def of_intent(attempt: Attempt, now: float) -> Event:
    """Return the event of an attempt that is new in the ledger."""
    return Event.told(attempt.token, now, "taken", SUBMITTER, {"cluster": attempt.cluster})


def is_told(columns: Mapping[str, object]) -> bool:
    """Return True if a change of columns may be an event."""
    return not columns.keys().isdisjoint(_TOLD)


def of_columns(token: str, columns: Mapping[str, object], now: float) -> Event | None:
    """Return the event of a change of columns; None: it is none that is told."""
    state, reason = columns.get("state"), columns.get("reason")
    if "node" in columns:  # a sighting, of which `of_sighting` tells
        return None
    if state == REJECTED and reason == CANCELLED:  # a person did it, of whom `Events.note` tells
        return None
    if isinstance(state, str) and state in _WORDS:
        facts = {"job": columns.get("job_id"), "reason": reason}
        return Event.told(token, now, _WORDS[state], SUBMITTER, facts)
    if reason == GIVEN_UP:
        return Event.told(token, now, "given up", SUBMITTER, {"reason": reason})
    if "stalled" in columns:
        silent = columns["stalled"] is not None
        return Event(token, now, "silent" if silent else "heard again", WATCHER)
    if columns.get("ended") is not None:
        facts = {"state": columns.get("seen_state"), "reason": columns.get("seen_reason")}
        return Event.told(token, now, "ended", WATCHER, facts)
    return None


def of_sighting(token: str, seen: Sighting, now: float) -> Event:
    """Return the event of a new state of a job."""
    facts: dict[str, object] = {
        "state": seen.state if seen.state in _FINAL else None, "reason": seen.reason,
        "node": seen.node, "exit_code": seen.exit_code, "signal": seen.signal,
    }  # fmt: skip
    what = "ended" if seen.state in _FINAL else seen.state
    return Event.told(token, now, what, CLUSTER, facts)


def of_milestone(token: str, percent: int, now: float) -> Event:
    """Return the event of a program that has done so much of its work, in percent."""
    return Event.told(token, now, PROGRESS, WRAPPER, {"percent": percent})


def of_verdict(token: str, verdict: Verdict, now: float) -> list[Event]:
    """Return the events of a verdict whose messages were sent.

    The cause stands in the row of the attempt, and not here a second time.
    """
    facts: dict[str, object] = {"outcome": verdict.outcome.value}
    told = Event.told(token, now, "verdict", verdict.witness, facts)
    if verdict.outcome is Outcome.RETRIED:
        last = Event(token, now + STEP_S, "follows", WATCHER)
    else:
        last = Event.told(token, now + STEP_S, "sent", WATCHER, {"messages": len(verdict.final)})
    return [told, last]
