"""Station "retry": whether a job that died of a cause that may pass is submitted again, and how.

The policy stands under `retry` in the step's parameters, else in the description of the cluster. It
is kept beside the job (`submission.json`), so that whoever has the last word can apply it: instead
of the last messages of the step its message goes back to where it came from, as the next attempt.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from zwrap.attempt.record import AskedResources, KeptSubmission
from zwrap.configuration.clusters import Policy
from zwrap.message import (
    ATTEMPT_HEADER,
    JSON,
    Outgoing,
    attempt_of,
    copied,
)
from zwrap.units import seconds

RETRIES_HEADER = "zwrap-retries"
"""How often a message was submitted again by itself."""

CONTINUED_HEADER = "zwrap-continued"
"""How often its step went on in another job, from what the program had saved."""


class NextAttempt(NamedTuple):
    """The message of another attempt, and what is said of it."""

    message: Outgoing
    said: str


def next_attempt(known: KeptSubmission, cause: str, node: str | None = None) -> NextAttempt | None:
    """Another attempt after that cause (on that node), if the policy wants one and it makes sense.

    Its envelope's environment says which attempt it is, under the name of the header.
    """
    policy = known.retry
    done = known.header.get(RETRIES_HEADER, 0)
    done = done if isinstance(done, int) else 0
    if policy is None or cause not in policy.on or done >= policy.limit:
        return None
    changes = _changes(known.asked, policy, cause, node)
    if changes is None:
        return None
    message, number = _again(known, changes, RETRIES_HEADER, done)
    with_more = ", ".join(f"{key} {value}" for key, value in changes.items())
    said = f"It is tried again as attempt {number}{f' with {with_more}' if with_more else ''}."
    return NextAttempt(message, said)


def continuation(known: KeptSubmission, most: int, remaining_s: float | None) -> NextAttempt | None:
    """The same step in another job, with what is left of the program's own time limit; None after
    `most` of them, or when nothing is left.
    """
    done = known.header.get(CONTINUED_HEADER, 0)
    done = done if isinstance(done, int) else 0
    if done >= most or (remaining_s is not None and remaining_s < 1):
        return None
    message, number = _again(known, {}, CONTINUED_HEADER, done)
    said = f"It has saved what it had, and goes on as attempt {number}"
    if remaining_s is not None:
        step = message.message["recipe"][str(message.message["recipe-pointer"])]
        parameters = step.get("job_parameters") or {}
        step["job_parameters"] = {**parameters, "timeout": int(remaining_s)}
        said += f" with {int(remaining_s)} s left"
    return NextAttempt(message, f"{said}.")


def _again(
    known: KeptSubmission, changes: Mapping[str, int | str], count: str, done: int
) -> tuple[Outgoing, int]:
    """The message of the next attempt, with what is changed and counted there; its number."""
    number = attempt_of(known.header) + 1
    body = _changed(known.message, changes, number)
    queue = str(known.header["original-destination"]).removeprefix("/queue/")
    headers = {
        key: value for key, value in known.header.items() if key != "original-destination"
    } | {ATTEMPT_HEADER: number, count: done + 1}
    return Outgoing(queue, body, headers), number


def _changes(
    asked: AskedResources, policy: Policy, cause: str, node: str | None
) -> dict[str, int | str] | None:
    """What to ask for now; None if that could not be more than last time."""
    keys: tuple[str, ...]
    if cause == "out_of_memory":
        keys, factor = ("memory_per_node", "min_memory_per_cpu"), policy.memory_factor
    elif cause == "timeout":
        keys, factor = ("time_limit",), policy.walltime_factor
    elif cause == "node_fail" and policy.exclude_node and node:
        return {"exclude": ",".join(filter(None, (asked.exclude, node)))}
    else:
        return {}
    changes: dict[str, int | str] = {}
    more = False
    for key in keys:
        value, most = getattr(asked, key), getattr(policy.ceiling, key)
        if value is None:
            continue
        limit = seconds(most, key) if key == "time_limit" and most is not None else most
        raised = int(value * factor)
        changes[key] = new = raised if limit is None else min(raised, limit)
        more |= new > value
    return changes if more else None


def _changed(body: JSON, changes: Mapping[str, int | str], number: int) -> JSON:
    """The recipe message of that attempt, with other keys in the `cluster` block of its step."""
    changed = copied(body)
    step = changed["recipe"][str(changed["recipe-pointer"])]
    block = step.get("parameters", {}).get("cluster")
    if isinstance(block, dict):
        block.update(changes)
    changed["environment"] = {**(changed.get("environment") or {}), ATTEMPT_HEADER: number}
    return changed
