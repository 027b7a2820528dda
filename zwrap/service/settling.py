"""Settlement of messages that services could not handle: a later retry, or a dead letter."""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Callable, Sequence

from zwrap.configuration.recipe_id import recipe_context
from zwrap.errors import PermanentError, QueueFullError, TemporaryError, TransportError
from zwrap.host.backoff import pause_after
from zwrap.host.processes import host_id
from zwrap.recipe.envelope import Envelope
from zwrap.service.contract import Service, Work
from zwrap.transport.contract import Delivery
from zwrap.transport.diagnosis import diagnosis, recipe_id_of

log = logging.getLogger(__name__)

RETRY_FIRST_S, RETRY_LAST_S = 1.0, 60.0
"""Delay of a message after the first failure, and the longest delay, in seconds."""


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
        pause: Function that waits for a number of seconds before the next batch, after a temporary
            failure.

    Raises:
        TransportError: The transport failed, without which the service cannot go on; the messages
            have been given back.
    """
    opened = [_open(service, delivery) for delivery in deliveries]
    work = [each for each in opened if each]
    problems = service.handle_all(work) if work else []
    pause_s = 0.0
    lost: TransportError | None = None
    for (delivery, envelope), problem in zip(work, problems, strict=True):
        with recipe_context(recipe_id_of(delivery.message)):
            pause_s = max(pause_s, _settle(service, delivery, envelope, problem))
        if isinstance(problem, TransportError) and not isinstance(problem, QueueFullError):
            lost = problem
    if lost:
        raise lost
    if pause_s:
        pause(pause_s)


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
    give_up: Callable[[str], None],
) -> None:
    """Settle a message whose handler failed.

    Args:
        delivery: The message.
        problem: The failure.
        limit: Number of deliveries after which the message is not tried again.
        again: Function that gives the message back, to come later.
        give_up: Function that makes the message a dead letter, given the traceback.
    """
    if delivery.delivery_count < limit:
        again(delivery)
    else:
        give_up("".join(traceback.format_exception(problem)))


def dead_letter_reason(delivery: Delivery, error: str, handler: str) -> str:
    """Return the reason of a dead letter: the error, the message, and its handler."""
    return (
        f"{error}\nmessage {delivery.message.id}, queue {delivery.source}, "
        f"attempt {delivery.delivery_count}, {handler}"
    )


def _open(service: Service, delivery: Delivery) -> Work | None:
    """Return the message with its envelope; None if it had to be settled instead."""
    with recipe_context(recipe_id_of(delivery.message)):
        try:
            check_deliveries(delivery, service.delivery_limit)
            return Work(delivery, service.open(delivery))
        except Exception as error:
            _settle(service, delivery, None, error)
            return None


def _settle(
    service: Service, delivery: Delivery, envelope: Envelope | None, problem: Exception | None
) -> float:
    """Settle a message with a problem; return the pause before the next message, in seconds.

    There is a pause after a temporary failure that names no time, because such a failure often
    concerns the whole site.
    """
    if problem is None:
        return 0.0
    if isinstance(problem, PermanentError):
        _give_up(service, delivery, envelope, str(problem))
    elif isinstance(problem, TemporaryError):
        delay_s = problem.retry_after_s or RETRY_FIRST_S
        log.warning("Message %s is tried again: %s", delivery.message.id, problem)
        delivery.retry(delay_s, counted=False)
        return 0.0 if problem.retry_after_s is not None else delay_s
    else:
        log.error("Message %s: the service failed", delivery.message.id, exc_info=problem)
        settle_fault(
            delivery,
            problem,
            service.delivery_limit,
            again=_again,
            give_up=lambda text: _give_up(service, delivery, envelope, text),
        )
    return 0.0


def _again(delivery: Delivery) -> None:
    """Give back a message that failed, with a longer delay after each failure."""
    delivery.retry(pause_after(delivery.delivery_count, RETRY_FIRST_S, RETRY_LAST_S))


def _give_up(service: Service, delivery: Delivery, envelope: Envelope | None, error: str) -> None:
    """Make a message a dead letter, and send the error to the `error` nodes of its recipe."""
    route = ""
    if envelope is not None:
        steps = " -> ".join(str(step) for step in [*envelope.path, envelope.pointer])
        route = f"\nrecipe {envelope.recipe_id}, route {steps}"
    handler = f"service {service.name} {host_id()}{route}"
    reason = dead_letter_reason(delivery, error, handler)
    log.error("Message %s is a dead letter: %s", delivery.message.id, error)
    facts = {"error": error, "service": service.name}
    try:
        with service.transport.unit(delivery, dead_letter=reason) as unit:
            if envelope is not None:
                unit.send(*envelope.send_error({**facts, "step": envelope.pointer}))
    except PermanentError as second:  # the error nodes of the recipe are wrong, too
        reason = f"{reason}\nThe error could not be sent to its error nodes: {second}"
        delivery.dead_letter(reason)
    service.gave_up(delivery, reason)
