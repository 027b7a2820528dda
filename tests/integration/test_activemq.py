"""Messages on a real ActiveMQ when things go wrong, and the sentences that people read then."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from zwrap.configuration.site import Configuration
from zwrap.errors import ConfigurationError, TransportError, ZwrapError
from zwrap.message.content import ID_HEADER, Outgoing
from zwrap.transport import deadletters
from zwrap.transport.contract import Delivery
from zwrap.transport.failures import EncodingError
from zwrap.transport.options import BrokerOptions
from zwrap.transport.stomp.received import Received
from zwrap.transport.stomp.settings import server_from
from zwrap.transport.stomp.transport import StompTransport

from .prefix import Server, opened

pytestmark = pytest.mark.slow


@pytest.fixture
def server(activemq: dict[str, Any]) -> Iterator[Server]:
    yield from opened(activemq)


AGAIN_S = 90.0
"""Time within which a message comes again whose connection was lost, in seconds: the server may
notice the loss only by the missing heart-beats."""


def until_dead(transport: StompTransport, queue: str) -> Iterator[Delivery]:
    """Yield what is received until there is a dead letter of a queue, and no other message."""
    deadline = time.monotonic() + AGAIN_S
    while not transport.inspector().dead_letters().get(queue) or left(transport, queue):
        assert time.monotonic() < deadline
        if delivery := transport.receive(0.5):
            yield delivery
    transport.flush()


def left(transport: StompTransport, queue: str) -> int:
    """Return the number of messages of a queue, those that are handed out included."""
    jolokia = transport.inspector()._jolokia
    found = jolokia._read(jolokia._bean(f"{transport.prefix}{queue}"), "QueueSize,InFlightCount")
    assert isinstance(found, dict)
    return int(found["QueueSize"])


# -- on the wire ---------------------------------------------------------------------------------


def test_messages_look_as_those_of_python_workflows(server: Server) -> None:
    transport, recorder = server.connect(), server.recorder()
    recorder.subscribe(f"/queue/{server.prefix}.q")
    transport.send("q", {"a": 1}, {"workflows-recipe": True})
    transport.send("q", {"a": 2}, expires_s=60)
    first, second = recorder.wait_for(2)
    assert json.loads(first.body) == {"a": 1}
    assert first.headers["workflows-recipe"] == "True"
    assert first.headers["persistent"] == "true"
    servers_own = {"content-length", "expires", "destination", "subscription", "priority",
                   "message-id", "timestamp", "persistent"}  # fmt: skip
    assert set(first.headers) - servers_own == {"workflows-recipe", ID_HEADER}
    assert int(second.headers["expires"]) / 1000 == pytest.approx(time.time() + 60, abs=10)


def test_a_broadcast_goes_to_the_topic_and_is_not_persistent(server: Server) -> None:
    transport, recorder = server.connect(), server.recorder()
    recorder.subscribe(f"/topic/{server.prefix}.transient.status")
    transport.broadcast("transient.status", {"status": 1}, expires_s=15)
    (frame,) = recorder.wait_for(1)
    assert json.loads(frame.body) == {"status": 1}
    assert "persistent" not in frame.headers


def test_a_dead_letter_is_where_the_server_puts_its_own(server: Server) -> None:
    transport, recorder = server.connect(), server.recorder()
    transport.subscribe("q")
    transport.send("q", {"a": 1}, {"k": "v"})
    delivery = transport.receive(5)
    assert delivery
    delivery.dead_letter("because")
    recorder.subscribe(f"/queue/DLQ.{server.prefix}.q")
    (frame,) = recorder.wait_for(1)
    assert json.loads(frame.body) == {"a": 1}
    assert frame.headers["original-destination"] == f"/queue/{server.prefix}.q"
    assert (frame.headers["k"], frame.headers["dlq-reason"]) == ("v", "because")


def test_what_others_refused_is_a_dead_letter_here(server: Server) -> None:
    """python-workflows NACKs, and the server puts the message aside."""
    transport, recorder = server.connect(), server.recorder()
    transport.send("q", {"a": 1})
    recorder.connection.subscribe(f"/queue/{server.prefix}.q", id="1", ack="client-individual")
    (frame,) = recorder.wait_for(1)
    recorder.connection.nack(frame.headers["message-id"], "1")
    deadline = time.monotonic() + 5
    while transport.inspector().dead_letters() != {"q": 1}:
        assert time.monotonic() < deadline
    transport.inspector().subscribe_dead_letters("q")
    dead = transport.receive(5)
    assert dead
    assert dead.message.body == {"a": 1}


# -- what people are told ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "kind", "complaint"),
    [
        ({"password": "s3cret"}, ConfigurationError, "refuses user 'admin': the user or the passw"),
        pytest.param(
            {"port": 9},
            TransportError,
            "127.0.0.1:9 refuses the connection: nothing listens there",
            id="port",
        ),
        ({"host": "no.such.host.invalid"}, TransportError, "the name does not resolve"),
        ({"port": 70000}, ConfigurationError, "port is '70000'; a number up to 65535"),
        ({"heartbeat_s": "soon"}, ConfigurationError, "settings of ActiveMQ are not usable"),
    ],
)
def test_each_wrong_setting_is_one_sentence(
    server: Server, changes: dict[str, Any], kind: type[ZwrapError], complaint: str
) -> None:
    with pytest.raises(kind) as caught:
        server.connect(**changes)
    assert complaint in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_without_a_management_address_that_is_said(server: Server) -> None:
    text = json.loads(server.text())
    text["environments"]["default"] = ["mq"]
    configuration = Configuration.from_string(json.dumps(text)).activate()
    transport = StompTransport.from_configuration(configuration)
    server.open.append(transport)
    with pytest.raises(ConfigurationError, match="add a section of plugin 'jmx'"):
        transport.inspector().queues()


def test_settings_from_file_and_options(tmp_path: Path) -> None:
    text = "version: 1\nmq: {plugin: stomp, host: a, port: 1, username: u, password: p, prefix: z}"
    configuration = Configuration.from_string(text + "\nenvironments: {default: [mq]}").activate()
    found = server_from(configuration)
    assert (found.addresses, found.prefix) == ((("a", 1),), "z")
    (tmp_path / "stomp.ini").write_text("[stomp]\nhost = c\nport = 3\npassword = x%y\n")
    options = BrokerOptions(conf=str(tmp_path / "stomp.ini"), prefix="other")
    found = server_from(configuration, options)
    assert (found.addresses, found.prefix, found.password) == ((("c", 3),), "other", "x%y")


# -- what is refused for good --------------------------------------------------------------------


def test_what_cannot_be_written_is_that_messages_fault(server: Server) -> None:
    transport = server.connect()
    transport.subscribe("q", 100)
    bad = [
        *(Outgoing(name, 1) for name in ("", "a\0b", "x" * 20_000)),
        *(Outgoing("q", 1, delay_s=each) for each in (1e20, float("inf"), float("nan"), -1.0)),
        *(Outgoing("q", 1, expires_s=each) for each in (1e20, float("inf"), float("nan"), -1.0)),
        *(Outgoing("q", 1, {key: "v"}) for key in ("", "n\0", "k" * 11_000)),
        Outgoing("q", 1, {"k": "v" * 11_000}),
        Outgoing("q", 1, {"k": "a\0b"}),
        Outgoing("q", 1, {"k": 10**5000}),
        Outgoing("q", 1, {f"k{n}": n for n in range(1100)}),
    ]
    for number, message in enumerate(bad):
        with pytest.raises(EncodingError) as caught:
            transport.commit([message])
        assert len(str(caught.value)) < 400
        transport.send("q", number)
        delivery = transport.receive(5)
        assert delivery
        assert delivery.message.body == number
        delivery.ack()
    odd = {"a:b\nc": "d:e\nf", "bad": "\udcff", "transaction": "t", "receipt": "r", "n": 2**70}
    transport.send("q", "odd", odd)
    delivery = transport.receive(5)
    assert delivery
    assert delivery.message.headers["a:b\nc"] == "d:e\nf"
    assert delivery.message.headers["bad"] == "\\udcff"
    assert "transaction" not in delivery.message.headers
    delivery.dead_letter("bad \udcff path, n\0ul, " + "long: \u00e9\n" * 100_000)
    transport.flush()
    transport.inspector().subscribe_dead_letters("q")
    dead = transport.receive(5)
    assert dead
    assert dead.reason.startswith("bad \\udcff path, n\\0ul, long: \u00e9\nlong")
    assert "[...]" in dead.reason
    dead.ack()


def test_a_frame_that_the_server_cannot_read_is_known_among_others(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zwrap.transport.stomp.encoding.checked", lambda made, place: made)
    transport = server.connect()
    failures: list[Any] = []

    def send(headers: dict[str, Any]) -> None:
        try:
            transport.send("q", 1, headers)
            failures.append(None)
        except ZwrapError as error:
            failures.append(error)

    large = {"k": "v" * 12_000}
    threads = [threading.Thread(target=send, args=[each]) for each in ({}, {}, large, {}, {})]
    with transport._connection._lock:  # so that they leave in one go
        for thread in threads:
            thread.start()
    for thread in threads:
        thread.join(40)
    assert failures.count(None) == 4
    [error] = [each for each in failures if each]
    assert isinstance(error, EncodingError)
    assert "the server ended the connection" in str(error)
    transport.send("q", "the connection goes on")


def test_a_unit_with_a_frame_that_the_server_cannot_read_is_a_dead_letter(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("zwrap.transport.stomp.encoding.checked", lambda made, place: made)
    transport = server.connect()
    transport.subscribe("q")
    transport.send("q", 1)
    delivery = transport.receive(5)
    assert delivery
    with transport.unit(delivery) as unit:
        unit.send(Outgoing("out", 2, {"k": "v" * 12_000}))
    assert transport.receive(5) is None
    transport.flush()
    transport.inspector().subscribe_dead_letters("q")
    dead = transport.receive(5)
    assert dead
    assert "A message that follows from it cannot be sent: the server ended" in dead.reason
    [file] = (tmp_path / "state" / "refused").iterdir()
    assert str(file) in dead.reason
    kept = deadletters.reinjected(deadletters.read(file), file, None)
    assert (kept.destination, kept.message) == ("out", 2)
    assert kept.headers["k"] == "v" * 12_000


def test_a_copy_that_the_server_cannot_read_is_kept_whole_with_a_stub(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    transport = server.connect()
    transport.subscribe("q")
    transport.send("q", "y" * 9000, {"k": "v"})
    delivery = transport.receive(5)
    assert delivery
    copy = Received.dead_copy

    def unreadable(self: Received, place: str, reason: str, original: str) -> Any:
        made = copy(self, place, reason, original)
        made.headers["large"] = "v" * 12_000
        return made

    monkeypatch.setattr(Received, "dead_copy", unreadable)
    delivery.dead_letter("the reason")
    assert list(until_dead(transport, "q")) == []
    transport.inspector().subscribe_dead_letters("q")
    dead = transport.receive(10)
    assert dead
    [file] = (tmp_path / "state" / "refused").iterdir()
    assert json.loads(file.read_text())["message"] == "y" * 9000
    assert dead.reason.startswith("the reason\nThe message cannot be kept on the server: ")
    assert str(file) in dead.reason
    assert dead.message.headers["k"] == "v"
    body = dead.message.body
    assert isinstance(body, dict)
    assert body["begins"] == json.dumps("y" * 9000)[:4096]


def test_of_a_unit_of_several_only_the_delivery_at_fault_is_a_dead_letter(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zwrap.transport.stomp.encoding.checked", lambda made, place: made)
    transport = server.connect()
    transport.subscribe("q", 3)
    for number in range(3):
        transport.send("q", number)

    def handled(*held: Delivery) -> None:
        with transport.unit(*held) as unit:
            for each in held:
                bad = {"k": "v" * 12_000} if each.message.body == 1 else {}
                unit.send(Outgoing("out", each.message.body, bad))

    handled(*[each for _ in range(3) if (each := transport.receive(5))])
    for delivery in until_dead(transport, "q"):
        assert delivery.delivery_count > 1, "and so it is handled alone"
        handled(delivery)
    transport.inspector().subscribe_dead_letters("q")
    dead = transport.receive(10)
    assert dead
    assert dead.message.body == 1
    transport.subscribe("out", 5)
    came = [each.message.body for _ in range(2) if (each := transport.receive(5))]
    assert sorted(map(str, came)) == ["0", "2"]
