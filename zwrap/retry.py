"""Station "retry": whether a job that died of a cause that may pass is submitted again, and how.

The policy stands under `retry` in the step's parameters, else in the description of the cluster. It
is kept beside the job (`submission.json`), so that whoever has the last word can apply it: instead
of the last messages of the step its message goes back to where it came from, as the next attempt.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, NamedTuple

import msgspec

from zwrap.errors import ConfigurationError, MessageError, RequestError
from zwrap.job import Count, Resources, seconds
from zwrap.jobdirectory import SUBMISSION, JobDirectory
from zwrap.message import (
    ATTEMPT_HEADER,
    ID_HEADER,
    JSON,
    Message,
    Outgoing,
    attempt_of,
    copied,
    decode,
    encode,
)

RETRIES_HEADER = "zwrap-retries"
"""How often a message was submitted again by itself."""

CONTINUED_HEADER = "zwrap-continued"
"""How often its step went on in another job, from what the program had saved."""

Factor = Annotated[float, msgspec.Meta(ge=1)]


class Ceiling(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a retry never asks for more of: memory in MB, and time."""

    memory_per_node: Count | None = None
    min_memory_per_cpu: Count | None = None
    time_limit: Any = None


class Policy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which deaths are followed by another attempt."""

    on: list[Literal["node_fail", "preempted", "out_of_memory", "timeout", "lost"]]
    limit: Count = 1
    """So many further attempts."""
    memory_factor: Factor = 1.5
    """So much more memory after `out_of_memory`."""
    walltime_factor: Factor = 1.5
    """So much more time after `timeout`."""
    ceiling: Ceiling = Ceiling()
    exclude_node: bool = False
    """Whether the node that failed is not to be used again."""


class Asked(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the job was given of what a retry may raise, as keys of the `cluster` block."""

    memory_per_node: int | None = None
    min_memory_per_cpu: int | None = None
    time_limit: int | None = None
    exclude: str | None = None


class Kept(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is kept of a submission: an exported dead letter (`zwrap.deadletters`), and more."""

    header: dict[str, JSON]
    message: JSON
    exported: dict[str, JSON] = {}
    asked: Asked = Asked()
    retry: Policy | None = None


class NextAttempt(NamedTuple):
    """The message of another attempt, and what is said of it."""

    message: Outgoing
    said: str


def policy_of(given: Any, site: Policy | None, where: str) -> Policy | None:
    """The policy of a step: its own, none (`false`), or the site's; RequestError if it is none."""
    if given is None:
        return site
    if given is False:
        return None
    try:
        return checked(given)
    except msgspec.ValidationError as error:
        raise RequestError(f"{where}, key 'retry': {error}. {EXPECTED}") from None


EXPECTED = (
    "Expected: 'on' (node_fail, preempted, out_of_memory, timeout, lost), 'limit', "
    "'memory_factor', 'walltime_factor', 'ceiling', 'exclude_node'; or false."
)


def checked(given: Any) -> Policy:
    """A policy; msgspec.ValidationError if it is none."""
    policy = msgspec.convert(given, Policy)
    if policy.ceiling.time_limit is not None:
        try:
            seconds(policy.ceiling.time_limit, "time_limit")
        except RequestError as error:
            raise msgspec.ValidationError(str(error).rstrip(".")) from None
    return policy


def of_site(given: Any, place: str) -> Policy | None:
    """The policy of a cluster's description."""
    try:
        return None if given in (None, False) else checked(given)
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"{place}, key 'retry': {error}. {EXPECTED}") from None


def kept(message: Message, queue: str, resources: Resources, policy: Policy | None) -> bytes:
    """What is kept of a submission, as JSON."""
    header = {**message.headers, ID_HEADER: message.id, ATTEMPT_HEADER: attempt_of(message.headers)}
    header["original-destination"] = f"/queue/{queue}"
    asked = Asked(
        resources.memory_mib, resources.memory_per_cpu_mib, resources.walltime_s, resources.exclude
    )
    return encode(Kept(header=header, message=message.body, asked=asked, retry=policy))


def read(directory: JobDirectory) -> Kept:
    """What was kept; MessageError if it is not there."""
    file = directory.path / SUBMISSION
    try:
        return parsed(file.read_bytes(), str(file))
    except OSError as error:
        raise MessageError(f"{file} cannot be read: {error.strerror}.") from None


def parsed(content: bytes, where: str) -> Kept:
    """The submission in a JSON text; MessageError if it is none."""
    try:
        return msgspec.convert(decode(content, where), Kept)
    except msgspec.ValidationError as error:
        raise MessageError(f"{where} holds no submission: {error}.") from None


def next_attempt(known: Kept, cause: str, node: str | None = None) -> NextAttempt | None:
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


def continuation(known: Kept, most: int, remaining_s: float | None) -> NextAttempt | None:
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
    known: Kept, changes: Mapping[str, int | str], count: str, done: int
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
    asked: Asked, policy: Policy, cause: str, node: str | None
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
