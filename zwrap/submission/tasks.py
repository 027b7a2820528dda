"""Array steps: the Submitter sends itself a message for each task, and each is a job of its own.

So the recipe gets the messages of each task, which is cancelled, retried and found lost by itself.
Tasks that wait together are joined to arrays as all jobs are (`zwrap.submission.arrays`).

Each of these messages carries the whole recipe. Of a large step a portion is sent at a time, and
behind it the message for the step itself once more, which says how many tasks have messages: the
memory of the Submitter holds few copies. Tasks that become jobs at once have left the queue when it
is handled. Those that wait, for their turn (``%10``) or because they are held, stay in the queue,
and the others come to them.

Id and origin of the message for a task depend on those of the message for the step and on the place
of the task, not on portions. So whoever takes a step apart once more, with a recipe of another size
or in another release, makes the same messages.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from zwrap.errors import RequestError, short
from zwrap.job import ArrayTask
from zwrap.message.content import (
    FOLLOWS_HEADER,
    ID_HEADER,
    ORIGIN_HEADER,
    SIGNATURE_HEADER,
    Message,
    Outgoing,
)
from zwrap.message.identity import child_id
from zwrap.message.jsontext import encode
from zwrap.message.limits import Limits
from zwrap.recipe.envelope import Envelope
from zwrap.transport.deadletters import TRANSPORT_HEADERS
from zwrap.transport.portions import FEW, PORTION_BYTES

TASK_HEADER = "zwrap-task"
"""Number of the task for which a message is, of a step with several."""

SENT_HEADER = "zwrap-tasks-sent"
"""Number of tasks of a step, the first ones, for which a message is not: they have their own."""

TASK_OF_HEADER = "zwrap-task-of"
"""What the messages for all tasks have in common that one message for the step became."""

TASK_KEY = "array-task"
"""Key of the recipe's environment that holds the number of the task behind a message."""

RANGE = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9})(?::([1-9][0-9]{0,8}))?)?", re.ASCII)
"""One number, or a range with its step (sbatch(1), ``--array``)."""

TRUTH = {"true": True, "false": False}

NOT_COPIED = {FOLLOWS_HEADER, ID_HEADER, ORIGIN_HEADER, SENT_HEADER, SIGNATURE_HEADER}
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
    return _number_in(message, TASK_HEADER)


def _number_in(message: Message, name: str) -> int | None:
    """Return the number in a header; None if it holds none."""
    given = message.headers.get(name)
    text = "" if isinstance(given, bool) else str(given)
    return int(text) if re.fullmatch("[0-9]{1,9}", text, re.ASCII) else None


def whole_of(message: Message) -> str | None:
    """Return what a message for a task has in common with those for the others; None: it is none.

    The number of its attempt makes no difference.
    """
    if task_in(message) is None:
        return None
    given = message.headers.get(TASK_OF_HEADER)
    return given if isinstance(given, str) and re.fullmatch("[0-9a-f-]{36}", given) else None


def tasks_sent(message: Message) -> int:
    """Return the number of tasks of a step, the first ones, that have messages of their own."""
    return _number_in(message, SENT_HEADER) or 0


def copies(envelope: Envelope, message: Message, queue: str) -> list[Outgoing]:
    """Return a message for each task of an array step; none: the step, or message, is one job.

    Of tasks whose messages would be larger than a portion (`zwrap.transport.portions`) only the
    first have one. Then the last message is the same one as it came, under its own id, for all
    others; its signature holds, because only a header differs.

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
    size = len(encode(body))
    if size * len(tasks.numbers) > limits.copies_bytes:
        raise RequestError(
            f"{where} is {short(given)}: the messages for {len(tasks.numbers)} tasks, each with "
            f"its recipe, have more than {limits.copies_bytes} bytes (section limits, key "
            "'copies_bytes')."
        )
    left = _left(tasks, message, where)
    now = left[: max(FEW, PORTION_BYTES // size)]
    own = {
        key: value
        for key, value in message.headers.items()
        if key not in TRANSPORT_HEADERS and not key.startswith(OF_DEATH)
    }
    headers = {key: value for key, value in own.items() if key not in NOT_COPIED}
    headers[TASK_OF_HEADER] = child_id(message.id, "tasks")
    sent = [
        Outgoing(
            queue,
            {**body, "environment": {**envelope.environment, TASK_KEY: number}},
            {**headers, TASK_HEADER: number},
        )
        for number in now
    ]
    if len(now) < len(left):
        done = tasks_sent(message) + len(now)
        again = {**own, ID_HEADER: message.id, SENT_HEADER: done}
        sent.append(Outgoing(queue, message.body, again))
    return sent


def _left(tasks: Tasks, message: Message, where: str) -> tuple[int, ...]:
    """Return the numbers of the tasks that a message is for."""
    before = tasks_sent(message)
    if before >= len(tasks.numbers):
        raise RequestError(
            f"{where} names {len(tasks.numbers)} tasks, and the message says that {before} of them "
            f"have messages of their own (header {SENT_HEADER!r}); send the step again without it."
        )
    return tasks.numbers[before:]
