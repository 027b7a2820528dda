"""Array steps: the Submitter sends itself a message for each task, and each is a job of its own.

So the recipe hears each task, which is cancelled, tried again and found to be lost by itself. Tasks
that wait together are joined to arrays as all jobs are (`zwrap.submission.arrays`).
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from zwrap.errors import RequestError, short
from zwrap.job import ArrayTask
from zwrap.limits import Limits
from zwrap.message import (
    FOLLOWS_HEADER,
    ID_HEADER,
    ORIGIN_HEADER,
    SIGNATURE_HEADER,
    Message,
    Outgoing,
    child_id,
    encode,
)
from zwrap.recipe.envelope import Envelope
from zwrap.transport.deadletters import TRANSPORT_HEADERS

TASK_HEADER = "zwrap-task"
"""Number of the task for which a message is, of a step with several."""

TASK_OF_HEADER = "zwrap-task-of"
"""What the messages for all tasks have in common that one message for the step became."""

TASK_KEY = "array-task"
"""Key of the recipe's environment that holds the number of the task behind a message."""

RANGE = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9})(?::([1-9][0-9]{0,8}))?)?", re.ASCII)
"""One number, or a range with its step (sbatch(1), ``--array``)."""

TRUTH = {"true": True, "false": False}

NOT_COPIED = {
    FOLLOWS_HEADER, ID_HEADER, ORIGIN_HEADER, SIGNATURE_HEADER, *TRANSPORT_HEADERS,
}  # fmt: skip
"""Headers that a message for a task has of its own."""

OF_DEATH = ("x-death", "x-first-death", "x-last-death", "x-delivery-count")
"""Beginnings of headers in which a broker notes what became of a message."""


class Tasks(NamedTuple):
    """The tasks of an array step."""

    numbers: tuple[int, ...]
    throttle: int | None
    """Largest number of tasks that are submitted and have not ended; None: any."""

    def task(self, number: int | None, where: str) -> ArrayTask:
        """Return the task of a number; None: the first one.

        Raises RequestError, which begins with `where`, if there is no such task.
        """
        first = self.numbers[0]
        if number is not None and number not in self.numbers:
            raise RequestError(
                f"{where} names no task {number}, for which the message is (header "
                f"{TASK_HEADER!r})."
            )
        own = first if number is None else number
        return ArrayTask(
            number=own,
            count=len(self.numbers),
            first=first,
            last=self.numbers[-1],
            rank=bisect.bisect_left(self.numbers, own),
            throttle=self.throttle,
        )


def tasks_of(given: object, where: str, limits: Limits) -> Tasks | bool:
    """Return the tasks that key `array` of a cluster block names, else whether to join the job.

    Raises RequestError, which begins with `where`, for another value or too many tasks.
    """
    text = str(given).strip() if type(given) in (str, int, bool) else ""
    if text.lower() in TRUTH:
        return TRUTH[text.lower()]
    listed, percent, most = text.partition("%")
    ranges = list(_ranges(listed))
    if None in ranges or (percent and not re.fullmatch("[1-9][0-9]{0,8}", most, re.ASCII)):
        raise RequestError(
            f"{where} is {short(given)}; true, false, or numbers of tasks such as '0-3', "
            "'1,4-10:2' or '0-99%10' are expected."
        )
    if sum(len(each) for each in ranges if each is not None) > limits.tasks:
        raise RequestError(
            f"{where} is {short(given)}, which is more than {limits.tasks} tasks (section limits, "
            "key 'tasks')."
        )
    numbers = sorted({number for each in ranges if each is not None for number in each})
    return Tasks(tuple(numbers), int(most) if percent else None)


def _ranges(text: str) -> Iterator[range | None]:
    """Yield the numbers of each part of a list; None for a part that is none."""
    for part in text.split(","):
        match = RANGE.fullmatch(part.strip())
        first = int(match[1]) if match else 0
        last = int(match[2] or first) if match else -1
        yield range(first, last + 1, int(match[3] or 1)) if match and first <= last else None


def task_in(message: Message) -> int | None:
    """Return the number of the task for which a message is; None: it is for a whole step."""
    given = message.headers.get(TASK_HEADER)
    text = "" if isinstance(given, bool) else str(given)
    return int(text) if re.fullmatch("[0-9]{1,9}", text, re.ASCII) else None


def whole_of(message: Message) -> str | None:
    """Return what a message for a task has in common with those for the others; None: it is none.

    The number of its attempt makes no difference.
    """
    given = message.headers.get(TASK_OF_HEADER)
    valid = isinstance(given, str) and re.fullmatch("[0-9a-f-]{36}", given)
    return str(given) if valid and task_in(message) is not None else None


def copies(envelope: Envelope, message: Message, queue: str) -> list[Outgoing]:
    """Return a message for each task of an array step; none: the step, or message, is one job.

    Args:
        envelope: The message at the step.
        message: The same message as it came.
        queue: The queue from which it came, to which the others go.

    Raises RequestError for a key `array` that is wrong, and for more than a site allows.
    """
    parameters = envelope.step.get("parameters")
    block = parameters.get("cluster") if isinstance(parameters, Mapping) else None
    if not isinstance(block, Mapping) or task_in(message) is not None:
        return []
    where = f"node {envelope.pointer}, parameters, key 'cluster', key 'array'"
    limits = envelope.limits
    given = block.get("array")
    tasks = True if given is None else tasks_of(given, where, limits)
    if isinstance(tasks, bool):
        return []
    if tasks.throttle and envelope.recipe_id is None:
        raise RequestError(
            f"{where} is {short(given)}: the recipe has no 'ID' in its environment, by which the "
            "tasks that run are counted; remove what begins with '%'."
        )
    body = envelope.body()
    if len(encode(body)) * len(tasks.numbers) > limits.copies_bytes:
        raise RequestError(
            f"{where} is {short(given)}: the messages for {len(tasks.numbers)} tasks, each with "
            f"its recipe, have more than {limits.copies_bytes} bytes (section limits, key "
            "'copies_bytes')."
        )
    headers = {
        key: value
        for key, value in message.headers.items()
        if key not in NOT_COPIED and not key.startswith(OF_DEATH)
    }
    return [
        Outgoing(
            queue,
            {**body, "environment": {**envelope.environment, TASK_KEY: number}},
            {**headers, TASK_HEADER: number, TASK_OF_HEADER: child_id(message.id, "tasks")},
        )
        for number in tasks.numbers
    ]
