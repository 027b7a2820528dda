"""Station "retry": another attempt with corrected job parameters, where the policy allows it.

A correction may change the result of a step for good, so none is made unless key `corrections` of
the retry policy allows it. It counts towards the same limit as other retries.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import msgspec
from msgspec.structs import asdict

from zwrap.attempt.record import KeptSubmission
from zwrap.attempt.retry import NextAttempt, again, count_of, queue_of, step_in
from zwrap.configuration.clusters import Policy
from zwrap.errors import short
from zwrap.message.content import CORRECTED, RETRIES_HEADER
from zwrap.message.jsontext import typed


class Corrected(msgspec.Struct, frozen=True):
    """A correction that was made for an attempt at a step."""

    step: int
    """Number of the step in its recipe; the environment goes to the steps after it, too."""
    cause: str
    """Label of the error that was corrected."""
    set: dict[str, object]
    """Job parameters, as ``name`` or ``block.name``, and their values."""


def corrections_in(environment: object) -> list[Corrected]:
    """Return the corrections in the environment of an envelope, the first one first."""
    given = environment.get(CORRECTED) if isinstance(environment, Mapping) else None
    try:
        return typed(given or [], list[Corrected])
    except msgspec.ValidationError:  # of another's making
        return []


def corrected(environment: object, step: int) -> list[dict[str, object]]:
    """Return what was corrected for the present attempt at a step, as JSON values."""
    return [asdict(each) for each in corrections_in(environment) if each.step == step]


def correction(
    known: KeptSubmission,
    cause: str,
    changes: Mapping[tuple[str, ...], object],
    limit: int,
    open_names: Sequence[str] = (),
) -> NextAttempt | None:
    """Return the attempt that follows a known error, with other job parameters.

    None: the policy allows none, its limit or that of the correction is reached, or the attempt
    would be like one before.

    Args:
        known: Record of the submission.
        cause: Label of the error.
        changes: Values by their places below `job_parameters`; empty: there is no correction.
        limit: Largest number of attempts with corrections of this cause.
        open_names: As in `zwrap.message.limits.Limits`.
    """
    policy, done, queue = known.retry, count_of(known, RETRIES_HEADER), queue_of(known, open_names)
    if not changes or policy is None or not _allows(policy, cause) or not queue:
        return None
    body = cast("dict[str, object]", known.message if isinstance(known.message, dict) else {})
    every, step = corrections_in(body.get("environment")), body.get("recipe-pointer")
    before = [each for each in every if each.step == step]
    shown = {".".join(route): value for route, value in changes.items()}
    new = Corrected(step if isinstance(step, int) else 0, cause, shown)
    is_known = any(each.set == new.set for each in before)
    if is_known or [each.cause for each in before].count(cause) >= limit or done >= policy.limit:
        return None
    message, number = again(known, queue, {}, RETRIES_HEADER, done)
    if not _change(step_in(message.message), changes):
        return None
    environment = cast("dict[str, dict[str, object]]", message.message)["environment"]
    environment[CORRECTED] = [asdict(each) for each in [*every, new]]
    values = ", ".join(f"{name} = {short(value)}" for name, value in new.set.items())
    return NextAttempt(message, f"It is tried again as attempt {number}, corrected: {values}.")


def _allows(policy: Policy, cause: str) -> bool:
    """Return True if a policy allows corrections of an error."""
    allowed = policy.corrections
    return allowed if isinstance(allowed, bool) else cause in allowed


def _change(step: dict[str, object], changes: Mapping[tuple[str, ...], object]) -> bool:
    """Change job parameters of a step in place; return False if that would change none."""
    is_new = False
    for route, value in changes.items():
        place = step
        for key in ("job_parameters", *route[:-1]):
            inner = place.setdefault(key, {})
            if not isinstance(inner, dict):
                return False
            place = inner
        is_new |= route[-1] not in place or place[route[-1]] != value
        place[route[-1]] = value
    return is_new
