"""RabbitMQ and ActiveMQ without a server: what a refusal does to a delivery."""

from __future__ import annotations

import logging
import subprocess
import sys
import textwrap
from typing import Any

import pika
import pytest

from zwrap.cli.common import NOISY, reported
from zwrap.errors import QueueFullError, TransportError, ZwrapError
from zwrap.message.content import Outgoing
from zwrap.transport.failures import (
    EncodingError,
    LostError,
    NoPermissionError,
    NoRouteError,
    RefusedError,
    TooLargeError,
)
from zwrap.transport.rabbitmq.consumer import Consumer
from zwrap.transport.rabbitmq.publication import Messages
from zwrap.transport.rabbitmq.settings import Server
from zwrap.transport.rabbitmq.transport import RabbitMQTransport
from zwrap.transport.stomp.frames import Frames, frame, refusal
from zwrap.transport.stomp.link import Link
from zwrap.transport.stomp.settings import Server as StompServer


class Silent:
    """Owner of a link that hears nothing of it."""

    where = "ActiveMQ"

    def arrived(self, link: Any, received: Any) -> None: ...

    def confirmed(self, link: Any) -> None: ...

    def lost(self, link: Any) -> None: ...


class Channel:
    """Records how deliveries are settled."""

    is_open = True

    def __init__(self) -> None:
        self.connection = self
        self.settled: list[str] = []

    def basic_consume(self, place: str, received: Any, *, exclusive: bool, callback: Any) -> None:
        self.received = received

    def basic_ack(self, tag: int) -> None:
        self.settled.append("ack")

    def basic_qos(self, *, prefetch_count: int, callback: Any) -> None:
        callback(None)

    def basic_nack(self, tag: int, *, requeue: bool) -> None:
        self.settled.append(f"nack, requeue {requeue}")


class Connection:
    """Takes work and leaves it to the test to end it."""

    where, state = "RabbitMQ", "no answer"

    def __init__(self) -> None:
        self.works: list[Messages] = []
        self.channel = Channel()

    def consume(self, consumer: Consumer) -> None:
        consumer.channel = self.channel  # type: ignore[assignment]
        consumer.start(self.channel, lambda _: None)  # type: ignore[arg-type]

    def submit(self, work: Messages) -> None:
        self.works.append(work)


def received(connection: Connection) -> RabbitMQTransport:
    """Return a transport to which one message of queue `in` was delivered."""
    transport = RabbitMQTransport(Server(), connection)  # type: ignore[arg-type]
    transport.subscribe("in")
    method = pika.spec.Basic.Deliver("c", 1, False, "", "in")
    properties = pika.BasicProperties(headers={"zwrap-id": "m"})
    connection.channel.received(connection.channel, method, properties, b"1")
    return transport


WORDS = "queue 'x' does not exist NOT_FOUND"


@pytest.mark.parametrize("kind", [NoRouteError, TooLargeError])
def test_a_delivery_whose_message_can_never_be_sent_is_a_dead_letter(
    kind: type[ZwrapError],
) -> None:
    connection = Connection()
    transport = received(connection)
    delivery = transport.receive(1)
    assert delivery
    with transport.unit(delivery) as unit:
        unit.send(Outgoing("out", 2))
    connection.works[0].finish(kind("the reason"))
    [dead] = connection.works[1].left
    assert dead.routing_key == "dlq.in"
    reason = "A message that follows from it cannot be sent: the reason."
    assert dead.properties.headers
    assert dead.properties.headers["dlq-reason"] == reason
    connection.works[1].finish(None)
    assert connection.channel.settled == ["ack"]


@pytest.mark.parametrize("kind", [LostError, NoPermissionError, RefusedError, TransportError])
def test_a_delivery_whose_message_may_be_sent_later_comes_again_whatever_the_words(
    kind: type[ZwrapError],
) -> None:
    connection = Connection()
    transport = received(connection)
    delivery = transport.receive(1)
    assert delivery
    with transport.unit(delivery) as unit:
        unit.send(Outgoing(WORDS, 2))
    connection.works[0].finish(kind(WORDS))
    assert connection.channel.settled == []
    [copy] = connection.works[1].left
    assert (copy.exchange, copy.routing_key) == ("zwrap.delay.30s", "in")
    assert copy.properties.headers
    assert copy.properties.headers["zwrap_deliveries"] == 1, "it is not at fault"
    connection.works[1].finish(None)
    assert connection.channel.settled == ["ack"], "never a bare requeue"


@pytest.mark.parametrize(
    "failure", [NoRouteError("no queue"), TransportError(WORDS), NoPermissionError(WORDS)]
)
def test_who_sends_is_told_the_type_of_the_failure(failure: ZwrapError) -> None:
    class Refusing(Connection):
        def submit(self, work: Messages) -> None:
            work.finish(failure)

    transport = RabbitMQTransport(Server(), Refusing())  # type: ignore[arg-type]
    with pytest.raises(ZwrapError, match="RabbitMQ: a message cannot be sent: ") as caught:
        transport.send("q", 1)
    assert type(caught.value) is type(failure)
    assert str(failure) in str(caught.value)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"java.lang.SecurityException: User u is not authorized", NoPermissionError),
        (b"javax.jms.ResourceAllocationException: Usage Manager Memory Limit", QueueFullError),
        (b"jakarta.jms.InvalidDestinationException: no such queue", NoRouteError),
        (
            b"org.apache.activemq.transport.stomp.ProtocolException: SecurityException",
            TransportError,
        ),
        (b"queue does not exist, java.lang.SecurityException", TransportError),
        (b"", TransportError),
    ],
)
def test_an_error_frame_has_the_type_of_its_exception(body: bytes, kind: type[ZwrapError]) -> None:
    told = refusal({"message": f"SecurityException: {WORDS}"}, body + b"\n\tat org.apache.X(1)\n")
    assert type(told) is kind
    assert str(told) == f"SecurityException: {WORDS}"


def test_an_error_frame_without_a_stack_trace_is_one_of_security() -> None:
    text = "User name [admin] or password is invalid."
    assert type(refusal({"message": text}, text.encode())) is NoPermissionError
    assert type(refusal({"message": text}, b"another text")) is TransportError
    assert type(refusal({}, text.encode())) is TransportError


def test_an_error_frame_without_a_message_is_told_by_its_first_line() -> None:
    assert str(refusal({}, b" one\ntwo\n")) == "one"
    assert str(refusal({}, None)) == "an error without a text"


def test_the_rest_of_a_frame_that_was_given_up_refuses_no_other_one() -> None:
    """ActiveMQ may read on, take the rest of a header for a command, and name another's receipt."""
    link = Link(StompServer(), "localhost", 1, Silent())
    link.open = True
    work = {name: Frames([frame("SEND", {})]) for name in ("r1", "r2")}
    link.receipts.update(work)
    words = "Unknown STOMP action: vvvv"
    link.on_error(frame("ERROR", {"message": "The maximum header length was exceeded"}))
    link.on_error(frame("ERROR", {"message": words, "receipt-id": "r1"}))
    link.on_error(frame("ERROR", {"message": "no", "receipt-id": "r2"}))
    assert [type(each.failure) for each in work.values()] == [type(None), TransportError]
    assert link.receipts == {"r1": work["r1"]}, "it is sent alone over the next connection"
    alone = refusal({"message": words}, f"org.apache.X: {words}".encode())
    assert type(alone) is EncodingError


def test_importing_a_transport_touches_no_logger_and_no_inspector() -> None:
    code = """
        import logging, sys
        import zwrap.transport.rabbitmq.transport, zwrap.transport.stomp.transport
        import zwrap.transport.spool.transport
        assert [logging.getLogger(name).level for name in ("pika", "stomp.py")] == [0, 0]
        ending = (".inspector", ".jolokia")
        loaded = [name for name in sys.modules if name.startswith("zwrap.transport.")]
        print([name for name in loaded if ".management" in name or name.endswith(ending)])
    """
    done = subprocess.run(
        [sys.executable, "-P", "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stderr, done.stdout) == ("", "[]\n")


def test_a_command_line_quietens_libraries_unless_the_site_has_done_so() -> None:
    loggers = {name: logging.getLogger(name) for name in NOISY}
    before = {name: logger.level for name, logger in loggers.items()}
    try:
        for logger in loggers.values():
            logger.setLevel(logging.NOTSET)
        loggers["stomp.py"].setLevel(logging.DEBUG)
        assert reported(lambda _: 0)([]) == 0
        levels = {name: logger.level for name, logger in loggers.items()}
        assert levels == {**NOISY, "stomp.py": logging.DEBUG}
    finally:
        for name, level in before.items():
            loggers[name].setLevel(level)
