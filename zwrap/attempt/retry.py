"""Station "retry": decides whether another attempt follows, and with which cluster block.

The policy is under `retry` in the step's parameters, else in the description of the cluster. It is
kept with the submission, so that the wrapper or Watcher that concludes the attempt can apply it:
instead of the final messages of the step, the step's message goes back to its queue as the next
attempt.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import msgspec

from zwrap.attempt.record import AskedResources, KeptSubmission
from zwrap.configuration.clusters import Policy
from zwrap.errors import MessageError
from zwrap.job import Cause
from zwrap.message.content import (
    ATTEMPT_HEADER,
    CLUSTER_HEADER,
    CONTINUED_HEADER,
    RETRIES_HEADER,
    Outgoing,
)
from zwrap.message.identity import LARGEST_ATTEMPT
from zwrap.message.jsontext import copied
from zwrap.recipe.destinations import is_closed
from zwrap.units import LARGEST_MIB, LONGEST_S

MOST_ATTEMPTS = LARGEST_ATTEMPT - 1
"""Largest number of attempts at a step; what was kept with a submission may hold any number."""

_KEPT_TEXT = r"(?:(\d{1,9})-)?(?:(?:(\d{1,9}):)?(\d{1,9}):)?(\d{1,9})"


class NextAttempt(msgspec.Struct, frozen=True):
    """The message of another attempt, and a sentence about it."""

    message: Outgoing
    said: str


MAPPINGS = ("options", "template")
"""Keys of the cluster block that hold entries with names of their own."""

RETRIED = ("exclude", "memory_per_node", "min_memory_per_cpu", "time_limit")
"""Keys of the cluster block that a policy changes for the next attempt."""


def next_attempt(
    known: KeptSubmission,
    cause: Cause | None,
    node: str | None = None,
    open_names: Sequence[str] = (),
) -> NextAttempt | None:
    """Return the attempt that follows a death of that cause on that node.

    None: the policy does not want one, or the attempt could not ask for more resources than the
    last one. The envelope's environment holds the number of the attempt, under the header's name.
    `open_names`: as in `zwrap.message.limits.Limits`.
    """
    policy = known.retry
    done = count_of(known, RETRIES_HEADER)
    queue = queue_of(known, open_names)
    if policy is None or cause not in policy.on or done >= policy.limit or not queue:
        return None
    changes = _changes(known.asked, policy, cause, node)
    if changes is None:
        return None
    message, number = again(known, queue, changes, RETRIES_HEADER, done)
    with_more = ", ".join(f"{key} {value}" for key, value in changes.items())
    said = f"It is tried again as attempt {number}{f' with {with_more}' if with_more else ''}."
    return NextAttempt(message, said)


def continuation(
    known: KeptSubmission,
    limit: int,
    remaining_s: float | None,
    open_names: Sequence[str] = (),
) -> NextAttempt | None:
    """Return the same step in another job, which continues from what the program saved.

    `remaining_s`: remainder of the program's own time limit, in seconds; None: it has none. The
    result is None after `limit` such jobs, and when less than a second is left. `open_names`: as in
    `zwrap.message.limits.Limits`.
    """
    done = count_of(known, CONTINUED_HEADER)
    queue = queue_of(known, open_names)
    if done >= limit or (remaining_s is not None and remaining_s < 1) or not queue:
        return None
    message, number = again(known, queue, {}, CONTINUED_HEADER, done)
    said = f"It has saved what it had, and goes on as attempt {number}"
    if remaining_s is not None:
        step = step_in(message.message)
        given = step.get("job_parameters")
        parameters = given if isinstance(given, dict) else {}
        step["job_parameters"] = {**parameters, "timeout": int(remaining_s)}
        said += f" with {int(remaining_s)} s left"
    return NextAttempt(message, f"{said}.")


def step_in(body: object) -> dict[str, object]:
    """Return the recipe node to which a recipe message points, to be changed in place.

    Raises:
        MessageError: The body is not a recipe message.
    """
    if isinstance(body, dict) and isinstance(recipe := body.get("recipe"), dict):
        step = recipe.get(str(body.get("recipe-pointer")))
        if isinstance(step, dict):
            return step
    raise MessageError("The message that was submitted is not a recipe message.")


def edited(body: object, changes: Mapping[str, int | str]) -> dict[str, object]:
    """Return a copy of a recipe message with changes in the `cluster` block of its step.

    An empty text removes the key. ``options.NAME`` and ``template.NAME`` stand for an entry of the
    mapping under `options` or `template`.

    Raises:
        MessageError: The body is not a recipe message, or its step has no such block.
    """
    changed = copied(body)
    parameters = step_in(changed).get("parameters")
    block = parameters.get("cluster") if isinstance(parameters, dict) else None
    if isinstance(block, dict):
        for key, value in changes.items():
            _change(block, key, value)
    elif changes:
        raise MessageError("The step has no 'cluster' block that could be changed.")
    assert isinstance(changed, dict)  # or it had no step
    return changed


def keep_cluster(body: object, cluster: str | None) -> dict[str, object]:
    """Let the step of a recipe message name a cluster if it names none; return headers for it.

    The defaults of the site may have changed since the last attempt, which has left its files, and
    perhaps the state of its program, on that cluster. MessageError: there is no step.
    """
    place, key = _naming(body)
    if not cluster or place is None or place.get(key):
        return {}
    place[key] = cluster
    return {CLUSTER_HEADER: cluster}


def without_cluster(body: object, headers: Mapping[str, object]) -> object:
    """Return a message without the name that `keep_cluster` has written into it.

    MessageError: there is no step.
    """
    cluster, changed = headers.get(CLUSTER_HEADER), copied(body)
    place, key = _naming(changed)
    if cluster is not None and place is not None and place.get(key) == cluster:
        del place[key]
    return changed


def _naming(body: object) -> tuple[dict[str, object] | None, str]:
    """Return the object in which a step names its cluster, and the key; None: there is none."""
    parameters = step_in(body).get("parameters")
    if not isinstance(parameters, dict):
        return None, ""
    block = parameters.get("cluster")
    return (block, "scheduler") if isinstance(block, dict) else (parameters, "cluster")


def _change(block: dict[str, object], key: str, value: int | str) -> None:
    """Change one key of a block, or of a mapping in it; an empty text removes it."""
    outer, dot, inner = key.partition(".")
    place, name = block, key
    if dot and outer in MAPPINGS:
        given = block.setdefault(outer, {})
        if not isinstance(given, dict):
            raise MessageError(f"The key {outer!r} of the step's 'cluster' block is no object.")
        place, name = given, inner
    if value == "":
        place.pop(name, None)
    else:
        place[name] = value


def count_of(known: KeptSubmission, header: str) -> int:
    """Return the number under a header, `MOST_ATTEMPTS` at most; 0 if there is none."""
    given = known.header.get(header, 0)
    return max(0, min(given, MOST_ATTEMPTS)) if isinstance(given, int) else 0


def again(
    known: KeptSubmission,
    queue: str,
    changes: Mapping[str, int | str],
    header: str,
    done: int,
) -> tuple[Outgoing, int]:
    """Return the message of the next attempt, and its number."""
    number = max(1, count_of(known, ATTEMPT_HEADER)) + 1
    try:
        body = edited(known.message, changes)
    except MessageError:  # a step in the form used before 2025 has no block to change
        body = edited(known.message, {})
    environment = body.get("environment")
    given = environment if isinstance(environment, dict) else {}
    body["environment"] = {**given, ATTEMPT_HEADER: number}
    headers = {
        key: value for key, value in known.header.items() if key != "original-destination"
    } | {ATTEMPT_HEADER: number, header: done + 1}
    headers |= keep_cluster(body, known.cluster)
    return Outgoing(queue, body, headers), number


def queue_of(known: KeptSubmission, open_names: Sequence[str]) -> str:
    """Return the queue that the step came from; empty where that is not known, or zwrap's own.

    A job may have changed what was kept of its submission.
    """
    given = known.header.get("original-destination")
    queue = given.removeprefix("/queue/") if isinstance(given, str) else ""
    return "" if is_closed("queue", queue, open_names) else queue


def _changes(
    asked: AskedResources, policy: Policy, cause: Cause | None, node: str | None
) -> dict[str, int | str] | None:
    """Return the changes of the cluster block; None if they would not ask for more resources."""
    if cause is Cause.NODE_FAIL and policy.exclude_node and node and not asked.nodelist:
        return {"exclude": ",".join(filter(None, (asked.exclude, node)))}
    ceiling = policy.ceiling
    if cause is Cause.OUT_OF_MEMORY:
        factor, largest = policy.memory_factor, LARGEST_MIB
        raised = {
            "memory_per_node": (asked.memory_per_node, ceiling.memory_per_node),
            "min_memory_per_cpu": (asked.min_memory_per_cpu, ceiling.min_memory_per_cpu),
        }
    elif cause is Cause.TIMEOUT:
        factor = policy.walltime_factor
        largest = LONGEST_S
        raised = {"time_limit": (asked.time_limit, _ceiling_s(ceiling.time_limit))}
    else:
        return {}
    changes: dict[str, int | str] = {}
    more = False
    factor = factor if factor >= 1 else 1.0  # what was kept may hold NaN
    for key, (value, most) in raised.items():
        if value is not None and 0 < value <= largest:
            new = int(min(value * factor, largest if most is None else most, largest))
            changes[key] = new
            more |= new > value
    return changes if more else None


def _ceiling_s(kept: float | str | None) -> int | None:
    """Return a kept ceiling in seconds; None: there is none that can be read.

    Earlier revisions kept the site's own text, of which ``A:B`` was minutes and seconds.
    """
    if not isinstance(kept, str):
        return None if kept is None or not kept <= LONGEST_S else int(max(kept, 0))
    match = re.fullmatch(_KEPT_TEXT, kept.strip())
    if match is None:
        return None
    days, hours, minutes, rest = (int(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + rest
