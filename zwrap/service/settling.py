"""Settlement of messages that services could not handle: a later retry, or a dead letter.

Whatever happens to one message, the others of its batch are settled as if it had not been there.
"""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Callable, Iterable, Sequence

from zwrap.configuration.recipe_id import recipe_context
from zwrap.errors import (
    OutageError,
    PermanentError,
    TemporaryError,
    TransportError,
    UnknownOutcomeError,
    WaitingError,
    ZwrapError,
)
from zwrap.host.backoff import pause_after
from zwrap.host.forks import ending_children
from zwrap.host.processes import host_id
from zwrap.recipe.envelope import Envelope
from zwrap.service.contract import Service, Work
from zwrap.service.deadletter import dead_letter_reason, put_aside
from zwrap.service.faults import EndedError, Faults, as_failure, told
from zwrap.service.outage import holds_up_one_queue, is_outage
from zwrap.transport.contract import Delivery
from zwrap.transport.diagnosis import diagnosis, recipe_id_of
from zwrap.units import LONGEST_S

log = logging.getLogger(__name__)

RETRY_FIRST_S, RETRY_LAST_S = 1.0, 60.0
"""Delay of a message after the first failure, and the longest delay, in seconds."""

Outcome = tuple[Work, Exception | None]
"""A message, and why it could not be handled; None: it was handled."""


def handle_delivery(
    service: Service, delivery: Delivery, pause: Callable[[float], object] = time.sleep
) -> None:
    """Let a service handle one message, and settle it whatever happens."""
    handle_deliveries(service, [delivery], pause)


def handle_deliveries(
    service: Service, deliveries: Sequence[Delivery], pause: Callable[[float], object] = time.sleep
) -> None:
    """Let a service handle a batch of messages, and settle each whatever happens.

    Args:
        service: The service.
        deliveries: The messages.
        pause: Function that waits for a number of seconds before the next batch, while something is
            away that all messages share.

    Raises:
        TransportError: The transport failed, without which the service cannot go on; the messages
            have been given back.
        OutageError: What all messages of an exclusive service need is away; those that are not
            settled are to keep their places.
    """
    with ending_children():
        outcomes: list[Outcome] = []
        work: list[Work] = []
        for delivery in deliveries:
            opened, problem = _opened(service, delivery)
            if problem:
                outcomes.append((opened, problem))
            else:
                work.append(opened)
        outcomes += zip(work, _handled(service, work), strict=True)
        settle(service, outcomes)
    pause_s = service.faults.pause_s()
    if pause_s:
        pause(pause_s)


def settle(service: Service, outcomes: Sequence[Outcome]) -> None:
    """Settle messages of a service that were handled, or could not be.

    Services that handle messages in batches of their own call this for each batch.

    Raises:
        TransportError: The transport failed; all messages have been given back.
        OutageError: As of `handle_deliveries`.
    """
    faults = service.faults
    lost: OutageError | None = None
    faults.failed.update(work.delivery for work, problem in outcomes if problem)
    handled = [work.delivery for work, problem in outcomes if not problem]
    well = [each for each in handled if each.settled and each not in faults.failed]
    seen: dict[int, bool] = {}
    for work, problem in outcomes:
        if problem is None:
            continue
        if service.exclusive and is_outage(problem) and not work.delivery.settled:
            lost = problem if isinstance(problem, OutageError) else OutageError(told(problem))
            continue
        with recipe_context(recipe_id_of(work.delivery.message)):
            lost = _settled(service, work, problem, seen) or lost
        if isinstance(problem, TransportError) and not holds_up_one_queue(problem):
            lost = problem
    for delivery in well:
        faults.went_well(delivery.message.id, service.name)
    if lost:
        raise lost


def check_deliveries(delivery: Delivery, limit: int) -> None:
    """Raise PermanentError if a message was delivered more than `limit` times."""
    if delivery.delivery_count > limit:
        raise PermanentError(diagnosis(delivery))


def settle_fault(
    delivery: Delivery,
    problem: BaseException,
    limit: int,
    *,
    again: Callable[[Delivery], None],
    give_up: Callable[[str], object],
) -> None:
    """Settle a message whose handler failed.

    Args:
        delivery: The message.
        problem: The failure.
        limit: Number of deliveries after which the message is not tried again.
        again: Function that gives the message back, to come later.
        give_up: Function that makes the message a dead letter, given a sentence and the traceback.
    """
    if delivery.delivery_count < limit:
        again(delivery)
    else:
        shown = "".join(traceback.format_exception(problem))
        give_up(f"The message was tried {delivery.delivery_count} times. {told(problem)}\n{shown}")


def _opened(service: Service, delivery: Delivery) -> tuple[Work, Exception | None]:
    """Return the message with its envelope, and why it cannot be handled, if so."""
    with recipe_context(recipe_id_of(delivery.message)):
        try:
            check_deliveries(delivery, service.delivery_limit)
            return Work(delivery, service.open(delivery)), None
        except BaseException as error:
            return Work(delivery, None), as_failure(error)


def _handled(service: Service, work: Sequence[Work]) -> Iterable[Exception | None]:
    """Let a service handle messages; return the problem of each."""
    if not work:
        return []
    try:
        problems = service.handle_all(work)
        if len(problems) != len(work):
            raise ValueError(
                f"handle_all returned {len(problems)} answers for {len(work)} messages."
            )
        return problems
    except BaseException as error:
        failure = as_failure(error)
        return [None if each.delivery.settled else failure for each in work]


def _settled(
    service: Service, work: Work, problem: Exception, seen: dict[int, bool]
) -> TransportError | None:
    """Settle a message with a problem, whatever else happens; return why the transport failed."""
    delivery = work.delivery
    try:
        _settle(service, work, problem, seen)
    except TransportError as error:
        return error
    except Exception as error:
        log.exception("Message %s could not be settled", delivery.message.id)
        return None if delivery.settled else _last_resort(delivery, problem, error)
    return None


def _last_resort(delivery: Delivery, problem: Exception, error: Exception) -> TransportError | None:
    """Put a message aside whose settlement raised `error`; return why that is not possible either.

    In an outage nobody should: the message is given back with the end of the connection.
    """
    if not is_outage(error):
        try:
            put_aside(delivery, f"{told(problem)}\nIt could not be settled: {told(error)}")
            return None
        except TransportError as second:
            return second
        except Exception as second:
            error = second
    return TransportError(f"Message {delivery.message.id} cannot be settled: {told(error)}")


def _settle(service: Service, work: Work, problem: Exception, seen: dict[int, bool]) -> None:
    """Settle a message with a problem.

    `seen`: exceptions that several messages of a batch share, and whether they are common; such an
    exception is that of one of them, and is counted once.
    """
    delivery, envelope = work
    message, faults = delivery.message.id, service.faults
    if delivery.settled and isinstance(problem, TransportError):
        return
    if delivery.settled:
        log.error("Message %s was settled, and then this happened", message, exc_info=problem)
    elif isinstance(problem, PermanentError):
        if _give_up(service, delivery, envelope, str(problem)):
            faults.ended(message, service.name)
    elif is_outage(problem):
        counted = faults.outage(message, problem, service.name)
        _again(service, work, problem, counted=counted)
    elif holds_up_one_queue(problem):
        faults.held_up(message, problem, service.name)
        _again(service, work, problem, counted=False)
    elif isinstance(problem, TemporaryError):
        told_before = isinstance(problem, WaitingError)  # once for all messages
        level = logging.DEBUG if told_before else logging.WARNING
        log.log(level, "Message %s is tried again: %s", message, problem)
        _again(service, work, problem, counted=False)
    elif isinstance(problem, ZwrapError) and not isinstance(problem, EndedError):
        log.warning("Message %s failed: %s", message, problem)  # foreseen, such as a time limit
        _again(service, work, problem, counted=True)
    else:
        if id(problem) not in seen:
            where = directory_of(envelope)
            seen[id(problem)] = faults.unforeseen_by(message, problem, service.name, where)
        _again(service, work, problem, counted=not seen[id(problem)])


def _again(service: Service, work: Work, problem: Exception, *, counted: bool) -> None:
    """Give a message back, later after each failure; past the limit it is a dead letter."""
    delivery, envelope = work
    if counted:
        settle_fault(
            delivery,
            problem,
            service.delivery_limit,
            again=lambda each: each.retry(
                pause_after(each.delivery_count, RETRY_FIRST_S, RETRY_LAST_S)
            ),
            give_up=lambda text: _give_up(service, delivery, envelope, text),
        )
        return
    named_s = _named_s(problem)
    if isinstance(problem, UnknownOutcomeError):
        uncounted(service.faults, delivery, first_s=named_s)
    else:
        uncounted(service.faults, delivery, named_s)


def _named_s(problem: Exception) -> float | None:
    """Return the time after which an error asks for another try, in seconds.

    None: it names none, or one that is no time, as the error of a plug-in may.
    """
    given: object = problem.retry_after_s if isinstance(problem, TemporaryError) else None
    if isinstance(given, (int, float)) and 0 <= given <= LONGEST_S:
        return float(given)
    return None


def uncounted(
    faults: Faults,
    delivery: Delivery,
    delay_s: float | None = None,
    *,
    first_s: float | None = None,
) -> None:
    """Give a message back, which does not count.

    Args:
        faults: Faults of the service.
        delivery: The message.
        delay_s: Time until it comes again, in seconds; None: later after each time.
        first_s: That time after the first time, in seconds; None: the usual one.
    """
    times = faults.given_back(delivery.message.id)
    if delay_s is None:
        first_s = RETRY_FIRST_S if first_s is None else first_s
        delay_s = pause_after(times, first_s, max(first_s, RETRY_LAST_S))
    delivery.retry(delay_s, counted=False)


def _give_up(service: Service, delivery: Delivery, envelope: Envelope | None, error: str) -> bool:
    """Make a message a dead letter, and send the error to the `error` nodes of its recipe.

    Returns False if it comes again instead, because that is not possible now.
    """
    message = delivery.message.id
    route = ""
    if envelope is not None:
        steps = " -> ".join(str(step) for step in [*envelope.path, envelope.pointer])
        route = f"\nrecipe {envelope.recipe_id}, route {steps}"
    handler = f"service {service.name} {host_id()}{route}"
    reason = dead_letter_reason(delivery, error, handler)
    facts = {"error": error, "service": service.name}
    if outage := _outage_of_noting(service, delivery, reason):
        service.faults.outage(message, outage, service.name)
        uncounted(service.faults, delivery)
        return False
    try:
        with service.transport.unit(delivery, dead_letter=reason) as unit:
            if envelope is not None:
                unit.send(*envelope.send_error({**facts, "step": envelope.pointer}))
    except Exception as second:  # the error nodes of the recipe are wrong, too
        if holds_up_one_queue(second):
            service.faults.held_up(message, second, service.name)
            uncounted(service.faults, delivery)
            return False
        if not isinstance(second, PermanentError):
            log.warning("The error of message %s cannot be sent", message, exc_info=second)
        reason = f"{reason}\nThe error could not be sent to its error nodes: {told(second)}"
        put_aside(delivery, reason)
    # A broker has not confirmed it yet.
    log.error("Message %s becomes a dead letter: %s", message, error.partition("\nTraceback")[0])
    try:
        service.gave_up(delivery, reason)
    except Exception:
        log.exception("%s failed after message %s became a dead letter", service.name, message)
    return True


def _outage_of_noting(service: Service, delivery: Delivery, reason: str) -> Exception | None:
    """Let a service note that a message will be a dead letter; return why it cannot do so now.

    Nothing else keeps the message from becoming one.
    """
    try:
        service.giving_up(delivery, reason)
    except Exception as error:
        if is_outage(error):
            return error
        log.exception("%s failed before message %s becomes a dead letter", service.name,
                      delivery.message.id)  # fmt: skip
    return None


def directory_of(envelope: Envelope | None) -> str:
    """Return the working directory of a message's step, in parentheses; empty if it has none."""
    parameters: object = envelope.step.get("parameters") if envelope else None
    given = parameters.get("workingdir") if isinstance(parameters, dict) else None
    return f" (directory {given[:500]!r})" if isinstance(given, str) else ""
