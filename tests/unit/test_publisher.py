"""Messages handed over for RabbitMQ, when the channel dies at an awkward moment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pika
import pika.exceptions
import pytest
from hypothesis import given, strategies as st

from zwrap.errors import MessageError, TemporaryError, TransportError, ZwrapError
from zwrap.transport.failures import (
    EncodingError,
    LostError,
    NoPermissionError,
    NoRouteError,
    RefusedError,
    TooLargeError,
)
from zwrap.transport.rabbitmq.needs import ANSWER_S, ASKED
from zwrap.transport.rabbitmq.publication import Messages, Publication
from zwrap.transport.rabbitmq.publisher import CONFIRM_S, TRIES, Publisher
from zwrap.transport.rabbitmq.topology import (
    Need,
    dead_letters_exist,
    exchange_exists,
    queue_exists,
)


class Channel:
    """Records what is published, and keeps what it was told to call."""

    def __init__(self) -> None:
        self.is_open = True
        self.published: list[str] = []
        self.served = 0

    def add_on_return_callback(self, callback: Callable[..., None]) -> None:
        self.returned = callback

    def add_on_close_callback(self, callback: Callable[..., None]) -> None:
        self._closed = callback

    def confirm_delivery(self, confirmed: Callable[..., None], ready: Callable[..., None]) -> None:
        self.confirmed = confirmed
        ready(None)

    def basic_publish(self, exchange: str, routing_key: str, *_: Any, mandatory: bool) -> None:
        if routing_key == "cannot be encoded":
            raise pika.exceptions.ShortStringTooLong("k" * 300)
        self.published.append(routing_key)

    def confirm(self, tag: int, kind: type = pika.spec.Basic.Ack) -> None:
        self.confirmed(pika.frame.Method(1, kind(tag)))

    def give_back(self, queue: str, text: str = "NO_ROUTE") -> None:
        returned = pika.spec.Basic.Return(312, text, "", queue)
        self.returned(self, returned, pika.BasicProperties(headers={"zwrap-id": queue}), b"")

    def die(self, error: BaseException | None = None) -> None:
        self.is_open = False
        self._closed(self, error or RuntimeError("404"))

    def close(self) -> None:
        self.is_open = False


class Connection:
    """Hands out channels; each question asked on one of them is answered by `answer`."""

    is_open = True
    answer: BaseException | None = None

    def __init__(self) -> None:
        self.channels: list[Channel] = []

    def channel(self, on_open_callback: Callable[..., None]) -> None:
        self.channels.append(Channel())
        on_open_callback(self.channels[-1])

    def add_on_connection_blocked_callback(self, callback: Callable[..., None]) -> None:
        self.blocked = callback

    def add_on_connection_unblocked_callback(self, callback: Callable[..., None]) -> None:
        self.unblocked = callback


class Timers:
    """A clock that is set by hand, and what was to be called later."""

    def __init__(self) -> None:
        self.now = 0.0
        self.pending: list[tuple[float, Callable[[], None]]] = []

    def call_later(self, seconds: float, function: Callable[[], None]) -> None:
        self.pending.append((self.now + seconds, function))

    def advance(self, seconds: float) -> None:
        self.now += seconds
        due = [function for when, function in self.pending if when <= self.now]
        self.pending = [entry for entry in self.pending if entry[0] > self.now]
        for function in due:
            function()


def publisher(timers: Timers | None = None) -> tuple[Publisher, Connection]:
    timers = timers or Timers()
    made = Publisher("RabbitMQ", timers.call_later, lambda: None, clock=lambda: timers.now)
    connection = Connection()
    made.connected(connection)
    return made, connection


def messages(queue: str, *needs: Need, **more: Any) -> Messages:
    properties = pika.BasicProperties()
    publication = Publication("", queue, b"", properties, queue, mandatory=True, needs=needs)
    return Messages([publication], **more)


def closed(code: int, text: str) -> BaseException:
    return pika.exceptions.ChannelClosedByBroker(code, text)


def test_a_need_that_fails_ends_its_own_work_and_no_other() -> None:
    made, connection = publisher()
    asked: list[Callable[[ZwrapError | None], None]] = []
    need = Need(lambda _, done: asked.append(done))
    first, second = messages("first"), messages("second", need)
    made.take(first)
    made.take(second)
    connection.channels[0].die()  # now the first waits again, before the second
    refused = NoPermissionError("no permission")
    asked[0](refused)
    assert (second.done, second.failure) == (True, refused)
    assert not first.done
    assert connection.channels[1].published == ["first"]


def test_what_the_channel_dies_of_each_time_is_given_up() -> None:
    made, connection = publisher()
    work = messages("poison")
    made.take(work)
    for _ in range(TRIES):
        assert not work.done
        connection.channels[-1].die()
    assert (work.done, str(work.failure)) == (True, "404")
    assert isinstance(work.failure, LostError), "no reply code: nothing says that it is at fault"


def test_what_nobody_wants_any_more_is_not_published_again() -> None:
    made, connection = publisher()
    wanted = [True]
    work = messages("q", valid=lambda: wanted[0])
    made.take(work)
    wanted[0] = False
    connection.channels[0].die()
    assert work.done
    assert connection.channels[1].published == []


# -- what a refusal means ------------------------------------------------------------------------


def test_what_no_queue_takes_has_no_route() -> None:
    made, connection = publisher()
    work = messages("nosuch")
    made.take(work)
    connection.channels[0].give_back("nosuch")
    connection.channels[0].confirm(1)
    assert isinstance(work.failure, NoRouteError)
    assert str(work.failure) == "queue 'nosuch' does not exist (NO_ROUTE)"


def test_names_and_texts_that_sound_like_another_failure_change_no_verdict() -> None:
    """Refusals are permanent by reply codes, never by words that a site chooses."""
    made, connection = publisher()
    name = "does not exist NOT_FOUND"
    work = messages(name)
    made.take(work)
    for _ in range(TRIES):
        connection.channels[-1].die(closed(541, f"INTERNAL_ERROR - queue {name!r} does not exist"))
    assert type(work.failure) is LostError
    assert name in str(work.failure)
    work = messages(name)
    made.take(work)
    connection.channels[-1].give_back(name, "ACCESS_REFUSED")
    connection.channels[-1].confirm(1)
    assert type(work.failure) is NoRouteError


@pytest.mark.parametrize(
    ("code", "kind", "permanent"),
    [
        (311, TooLargeError, True),
        (403, NoPermissionError, False),
        (404, NoRouteError, True),
        (406, TooLargeError, True),
        (541, LostError, False),
    ],
)
def test_the_code_with_which_a_channel_dies_of_one_message_says_what_it_was(
    code: int, kind: type[ZwrapError], permanent: bool
) -> None:
    made, connection = publisher()
    work = messages("poison")
    made.take(work)
    for _ in range(TRIES):
        connection.channels[-1].die(closed(code, "does not exist"))
    assert type(work.failure) is kind
    assert isinstance(work.failure, MessageError if permanent else TemporaryError)


@given(
    sizes=st.lists(st.integers(1, 3), min_size=2, max_size=6),
    poison=st.integers(0, 17),
    code=st.sampled_from([403, 404, 406, 311]),
)
def test_of_many_that_a_channel_dies_of_only_the_poison_is_refused(
    sizes: list[int], poison: int, code: int
) -> None:
    """The server closes the channel at the poison, and forgets what it has not confirmed."""
    made, connection = publisher()
    names = [[f"{work}.{part}" for part in range(size)] for work, size in enumerate(sizes)]
    flat = [name for each in names for name in each]
    bad = flat[poison % len(flat)]
    works = [group(each) for each in names]
    for work in works:
        made.take(work)
    for _ in range(4 * len(flat)):
        serve(connection, bad, code)
    for work, each in zip(works, names, strict=True):
        assert work.done
        assert work.tries == 0, "no neighbour is charged"
        if bad in each:
            assert isinstance(work.failure, (MessageError, NoPermissionError))
            assert work.refused is not None
            assert work.refused.routing_key == bad
        else:
            assert work.failure is None
    assert len(connection.channels) <= 3


def group(names: list[str]) -> Messages:
    return Messages(
        [Publication("", name, b"", pika.BasicProperties(), name, mandatory=True) for name in names]
    )


def serve(connection: Connection, poison: str, code: int) -> None:
    """Confirm what was published on the last channel, or close it because of the poison."""
    channel = connection.channels[-1]
    published = channel.published[channel.served :]
    if poison in published:
        channel.die(closed(code, "no"))
    elif published:
        channel.served += 1
        channel.confirm(channel.served)


def test_a_connection_that_dies_of_a_frame_of_many_dies_of_it_once_more_at_most() -> None:
    made, connection = publisher()
    works = [messages("poison"), messages("innocent")]
    for work in works:
        made.take(work)
    frame_error = pika.exceptions.ConnectionClosedByBroker(501, "FRAME_ERROR - type 2")
    made.lost(frame_error)
    made.connected(connection)  # type: ignore[arg-type]
    assert connection.channels[-1].published == ["poison"], "alone"
    made.lost(frame_error)
    assert isinstance(works[0].failure, EncodingError)
    made.connected(connection)  # type: ignore[arg-type]
    connection.channels[-1].confirm(1)
    assert (works[1].done, works[1].failure) == (True, None)


def test_a_declaration_without_an_answer_holds_up_others_for_a_limited_time() -> None:
    """RabbitMQ takes line ends out of names, and pika then waits for another name for ever."""
    timers = Timers()
    made, connection = publisher(timers)
    first, second = messages("first", Need(lambda _, done: None)), messages("second")
    made.take(first)
    made.take(second)
    assert connection.channels[0].published == []
    timers.advance(ANSWER_S + 1)
    assert isinstance(first.failure, TransportError)
    assert connection.channels[0].published == ["second"]


def test_the_queues_of_many_messages_are_asked_for_at_the_same_time() -> None:
    """A unit with 1000 new queues takes 11 s one after the other, for which all others wait."""
    made, _ = publisher()
    asked: list[Callable[[ZwrapError | None], None]] = []
    needs = [Need(lambda _, done: asked.append(done)) for _ in range(100)]
    many = Messages([
        Publication("", f"q{n}", b"", pika.BasicProperties(), f"q{n}", mandatory=True, needs=[need])
        for n, need in enumerate(needs)
    ])  # fmt: skip
    made.take(many)
    rounds = 0
    while asked:
        rounds += 1
        assert len(asked) <= ASKED
        answers, asked[:] = [*asked], []
        for answer in answers:
            answer(None)
    assert rounds == 4
    assert many.open == 100, "published"


@given(st.lists(st.booleans(), min_size=1, max_size=80))
def test_of_many_queues_those_that_cannot_be_made_fail_their_own_work(exist: list[bool]) -> None:
    made, connection = publisher()
    refused = NoPermissionError("no permission")
    works = []
    for number, there in enumerate(exist):
        need = Need(lambda _, done, there=there: done(None if there else refused))  # type: ignore[misc]
        works.append(messages(f"q{number}", need))
        made.take(works[-1])
    assert [each.failure for each in works] == [None if there else refused for there in exist]
    assert len(connection.channels[0].published) == sum(exist)


def test_a_declaration_is_waited_for_while_the_server_does_not_read() -> None:
    timers = Timers()
    made, connection = publisher(timers)
    work = messages("q", Need(lambda _, done: None))
    made.take(work)
    connection.blocked(None, pika.frame.Method(0, pika.spec.Connection.Blocked("low on memory")))
    timers.advance(10 * ANSWER_S)
    assert not work.done
    connection.unblocked(None, None)
    timers.advance(ANSWER_S + 1)
    assert work.done


NAMES = st.text(st.characters(), max_size=300) | st.sampled_from(
    ["q\n", "\udcff", "é" * 200, "amq.x"]
)


@given(name=NAMES, what=st.sampled_from(["queue", "dead letters", "topic"]))
def test_a_name_that_pika_cannot_write_is_an_answer(name: str, what: str) -> None:
    needs = {"queue": queue_exists(name, "classic"), "topic": exchange_exists(name)}
    need = needs.get(what) or dead_letters_exist(name)

    class Asked:
        """A channel that writes with pika, and answers that nothing exists."""

        is_open = False

        def channel(self, on_open_callback: Callable[[Any], None]) -> None:
            on_open_callback(self)

        def add_on_close_callback(self, callback: Callable[..., None]) -> None:
            self._closed = callback

        def queue_declare(self, queue: str, *_: Any, **__: Any) -> None:
            b"".join(pika.spec.Queue.Declare(queue=queue).encode())
            self._closed(self, closed(404, "NOT_FOUND"))

        def exchange_declare(self, exchange: str, *_: Any, **__: Any) -> None:
            b"".join(pika.spec.Exchange.Declare(exchange=exchange).encode())
            self._closed(self, closed(404, "NOT_FOUND"))

    told: list[ZwrapError | None] = []
    need.ask(Asked(), told.append)  # type: ignore[arg-type]
    [failure] = told
    assert isinstance(failure, (EncodingError, NoRouteError))


def test_a_full_queue_is_told_once_and_soon_to_its_senders(
    caplog: pytest.LogCaptureFixture,
) -> None:
    timers = Timers()
    made, connection = publisher(timers)
    channel = connection.channels[0]

    def refuse_all() -> None:
        while channel.served < len(channel.published):
            channel.served += 1
            full = channel.published[channel.served - 1] == "full"
            channel.confirm(channel.served, pika.spec.Basic.Nack if full else pika.spec.Basic.Ack)

    first, other = messages("full"), messages("other")
    made.take(first)
    made.take(other)
    refuse_all()
    assert (other.done, other.failure) == (True, None)
    for _ in range(12):
        timers.advance(0.5)
        refuse_all()
    assert isinstance(first.failure, RefusedError)
    assert first.failure.retry_after_s == 1.0
    assert "'full'" in made.state
    assert "is full" in made.state
    second = messages("full")
    made.take(second)
    refuse_all()
    assert isinstance(second.failure, RefusedError)
    assert second.failure.retry_after_s == 2.0
    assert len([each for each in caplog.records if "is full" in each.getMessage()]) == 1


def test_what_cannot_be_encoded_is_refused_for_good() -> None:
    made, _ = publisher()
    work = messages("cannot be encoded")
    made.take(work)
    assert isinstance(work.failure, EncodingError)
    assert "it cannot be written as AMQP" in str(work.failure)


def test_a_channel_that_closes_while_one_publishes_does_not_blame_the_message() -> None:
    made, connection = publisher()

    def closing(*_: Any, **__: Any) -> None:
        raise pika.exceptions.ChannelWrongStateError("Channel is closing")

    connection.channels[0].basic_publish = closing  # type: ignore[method-assign]
    work = messages("q")
    made.take(work)
    assert type(work.failure) is LostError


def test_what_is_refused_for_now_is_sent_again_after_a_pause() -> None:
    timers = Timers()
    made, connection = publisher(timers)
    work = messages("full")
    made.take(work)
    connection.channels[0].confirm(1, pika.spec.Basic.Nack)
    assert not work.done
    assert connection.channels[0].published == ["full"]
    timers.advance(0.6)
    assert connection.channels[0].published == ["full", "full"]
    made.closing = True
    connection.channels[0].confirm(2, pika.spec.Basic.Nack)
    assert isinstance(work.failure, RefusedError)


def test_what_is_never_confirmed_is_sent_again_on_another_channel() -> None:
    timers = Timers()
    made, connection = publisher(timers)
    work = messages("q")
    made.take(work)
    timers.advance(CONFIRM_S - 1)
    assert len(connection.channels) == 1
    timers.advance(2)
    assert connection.channels[1].published == ["q"]
    connection.channels[1].confirm(1)
    assert (work.done, work.failure) == (True, None)


@pytest.mark.parametrize(
    ("code", "kind"), [(403, NoPermissionError), (404, NoRouteError), (406, TransportError)]
)
def test_a_need_that_the_server_refuses_has_the_type_of_the_reply_code(
    code: int, kind: type[ZwrapError]
) -> None:
    class Refusing:
        """A connection on which every channel is closed by the server."""

        def channel(self, on_open_callback: Callable[[Any], None]) -> None:
            on_open_callback(self)

        is_open = False

        def add_on_close_callback(self, callback: Callable[..., None]) -> None:
            self._closed = callback

        def queue_declare(self, *_: Any, passive: bool = False, **__: Any) -> None:
            self._closed(self, closed(404 if passive else code, "queue 'x' does not exist"))

    told: list[ZwrapError | None] = []
    dead_letters_exist("does not exist").ask(Refusing(), told.append)  # type: ignore[arg-type]
    assert [type(each) for each in told] == [kind]
