"""Messages that the database hinders: they wait in place, give way to others, or are given up."""

from __future__ import annotations

from zwrap.errors import MessageError, OutageError, TemporaryError
from zwrap.service.ispyb import givingway as module
from zwrap.service.ispyb.givingway import GivingWay

LOCKED = OutageError("A row is locked.")


def given_way(messages: GivingWay, name: str) -> TemporaryError:
    """Hinder a message until it gives way, and return what it is told."""
    for _ in range(module.IN_PLACE - 1):
        assert messages.hindered(name, LOCKED) is LOCKED
    error = messages.hindered(name, LOCKED)
    assert not isinstance(error, OutageError)
    assert isinstance(error, TemporaryError)
    return error


def test_a_message_gives_way_after_some_tries_in_place_and_then_each_time() -> None:
    messages = GivingWay()
    first = given_way(messages, "a")
    assert str(first) == (
        "The database is there, and hinders this message: those behind it go on, and it comes "
        "again in 1 minute. A row is locked."
    )
    messages.went_well("b")
    second = messages.hindered("a", LOCKED)
    assert (first.retry_after_s, second.retry_after_s) == (60.0, 120.0)
    messages.went_well("a")
    assert given_way(messages, "a").retry_after_s == 60.0


def test_what_hinders_many_messages_in_a_row_lets_all_wait_in_place() -> None:
    messages = GivingWay()
    for number in range(module.AT_ONCE):
        given_way(messages, str(number))
    for _ in range(10):
        assert messages.hindered("another", LOCKED) is LOCKED
    assert messages.hindered("0", LOCKED) is not LOCKED, "it is behind the others already"
    messages.went_well("one")
    assert messages.hindered("another", LOCKED) is not LOCKED


def test_a_message_is_given_up_when_others_went_well_many_times_meanwhile() -> None:
    messages = GivingWay()
    given_way(messages, "a")
    for _ in range(100):
        assert isinstance(messages.hindered("a", LOCKED), TemporaryError), "none went well"
    for _ in range(module.TRIES - 1):
        messages.went_well("b")
        assert isinstance(messages.hindered("a", LOCKED), TemporaryError)
    messages.went_well("b")
    error = messages.hindered("a", LOCKED)
    assert isinstance(error, MessageError)
    assert "and others went well meanwhile. A row is locked." in str(error)


def test_only_so_many_messages_are_remembered() -> None:
    messages = GivingWay()
    for number in range(module.REMEMBERED + 10):
        messages.hindered(str(number), LOCKED)
    assert len(messages._messages) == module.REMEMBERED
