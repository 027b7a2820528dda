"""Messages and instances of a consumer class that fails."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from zwrap.errors import OutageError
from zwrap.message.content import Message
from zwrap.transport.contract import Delivery, Settlement, Verb
from zwrap.transport.failures import NoPermissionError, RefusedError
from zwrap.workers.consumers.pool import Pool
from zwrap.workers.consumers.settings import ConsumerSettings

from .noting import Noting


class Fake(Noting):
    """A transport that hands out what a test gives it."""

    def origin(self, delivery: Delivery) -> tuple[dict[str, object], dict[str, object]]:
        return {}, {}


class Failing:
    """A consumer that raises its message's body."""

    def consume(self, amqp: Any, msg: Any) -> None:
        raise ERRORS[msg.body]

    def shutdown(self, exception: BaseException | None = None) -> None:
        raise GeneratorExit


ERRORS: dict[str, BaseException] = {
    "exit": SystemExit(3), "generator": GeneratorExit(),
    "bug": KeyError("x"), "away": OutageError("The database is away."),
    "full": RefusedError("Queue q takes no messages."), "forbidden": NoPermissionError("No."),
}  # fmt: skip


@pytest.fixture
def pool() -> Pool:
    settings = ConsumerSettings("site:Failing", "in")
    return Pool(settings, Failing, Fake(), threading.Event())  # type: ignore[arg-type]


def settled(pool: Pool) -> list[Settlement]:
    transport: Any = pool._transport
    found: list[Settlement] = transport.settlements
    return found


def handle(pool: Pool, body: str, count: int = 1, identity: str = "m") -> Exception | None:
    delivery = Delivery(
        pool._transport, Message(body, {}, identity), "in", delivery_count=count, topic=False
    )
    return pool._handle(Failing(), delivery)


@pytest.mark.parametrize("body", ["exit", "generator", "bug"])
def test_whatever_a_consumer_raises_is_a_failure_of_its_message(pool: Pool, body: str) -> None:
    for count in range(1, 6):
        assert handle(pool, body, count)
    assert [each.verb for each in settled(pool)] == [Verb.RETRY] * 4 + [Verb.DEAD_LETTER]
    assert settled(pool)[-1].reason.startswith("The message was tried 5 times. ")
    pool._shut_down(Failing(), None)


def test_an_outage_counts_against_no_message(pool: Pool) -> None:
    for count in (1, 5, 5, 5):
        assert handle(pool, "away", count)
    assert all(each.verb is Verb.RETRY and not each.counted for each in settled(pool))


@pytest.mark.parametrize("body", ["full", "forbidden"])
def test_a_queue_that_is_full_is_told_once_and_counts_against_no_message(
    pool: Pool, body: str, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(10):
        assert handle(pool, body, 5, str(number))
    assert all(each.verb is Verb.RETRY and not each.counted for each in settled(pool))
    assert len(caplog.records) == 1
    assert pool._faults.unforeseen == 0


def test_a_broken_consumer_does_not_empty_its_queue_into_the_dead_letters(pool: Pool) -> None:
    for number in range(4):
        handle(pool, "bug", 1, str(number))
    for number in range(4, 30):
        handle(pool, "bug", 5, str(number))
    assert all(each.verb is Verb.RETRY for each in settled(pool))
    assert [each.counted for each in settled(pool)] == [True] * 4 + [False] * 26
