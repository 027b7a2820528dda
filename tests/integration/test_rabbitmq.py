"""Messages on a real RabbitMQ when things go wrong, and the sentences that people read then."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pika
import pytest

from zwrap.configuration.site import Configuration
from zwrap.errors import ConfigurationError, MessageError, TransportError, ZwrapError
from zwrap.message.content import ID_HEADER, Outgoing
from zwrap.transport.failures import EncodingError, NoPermissionError, NoRouteError
from zwrap.transport.options import BrokerOptions
from zwrap.transport.rabbitmq.management.api import UserSpec, hash_password as hashed
from zwrap.transport.rabbitmq.settings import server_from

from .conftest import Site
from .vhost import RIG, Breakable, Server, opened

pytestmark = pytest.mark.slow

Wait = Callable[..., Any]


@pytest.fixture
def server(rabbitmq: dict[str, Any]) -> Iterator[Server]:
    yield from opened(rabbitmq)


# -- on the wire -------------------------------------------------------------------------------


def test_messages_look_as_those_of_python_workflows(server: Server) -> None:
    server.queue("q")
    transport = server.connect()
    transport.send("q", {"a": 1}, {"workflows-recipe": True})
    transport.send("q", {"a": 2}, expires_s=60)
    channel = server.channel()
    method, properties, body = channel.basic_get("q")
    assert (method.exchange, method.routing_key) == ("", "q")
    assert json.loads(body) == {"a": 1}
    assert properties.headers["workflows-recipe"] is True
    assert set(properties.headers) - {"x-delivery-count"} == {"workflows-recipe", ID_HEADER}
    assert properties.delivery_mode == 2
    assert channel.basic_get("q")[1].expiration == "60000"
    channel.connection.close()


def test_a_broadcast_is_a_fanout_as_configure_rabbitmq_declares_it(server: Server) -> None:
    transport = server.connect()
    transport.broadcast("transient.status", {"status": 1}, expires_s=15)
    exchange = server.api.exchanges(server.vhost, "transient.status")
    assert (exchange.type, exchange.durable) == ("fanout", True)  # type: ignore[union-attr]
    channel = server.channel()
    name = channel.queue_declare("", exclusive=True).method.queue
    channel.queue_bind(name, "transient.status")
    transport.broadcast("transient.status", {"status": 2}, expires_s=15)
    deadline = time.monotonic() + 10
    while not (got := channel.basic_get(name))[0]:
        assert time.monotonic() < deadline
    method, properties, body = got
    assert (method.exchange, method.routing_key) == ("transient.status", "")
    assert properties.expiration == "15000"
    assert json.loads(body) == {"status": 2}
    channel.connection.close()


def test_a_message_for_an_exchange_goes_where_its_bindings_lead(
    server: Server, wait_until: Wait
) -> None:
    """Its routing key is the name of the queue, as in python-workflows 3 and later."""
    server.queue("xrc.i03")
    channel = server.channel()
    channel.exchange_declare("results", "topic", durable=True)
    channel.queue_declare("bound", durable=True)
    channel.queue_bind("bound", "results", "xrc.*")
    transport = server.connect()
    for delay_s in (0.0, 1.0):
        transport.commit([Outgoing("xrc.i03", {"a": 1}, exchange="results", delay_s=delay_s)])
        method, _, body = wait_until(
            lambda: next((got for got in [channel.basic_get("bound", auto_ack=True)] if got[0]), 0)
        )
        assert (method.exchange, method.routing_key) == ("results", "xrc.i03")
        assert json.loads(body) == {"a": 1}
    assert transport.inspector().waiting("xrc.i03") == 0
    channel.connection.close()


def test_an_exchange_that_leads_nowhere_or_is_not_there_is_told(server: Server) -> None:
    channel = server.channel()
    channel.exchange_declare("results", "topic", durable=True)
    channel.connection.close()
    server.queue("q")
    transport = server.connect()
    with pytest.raises(NoRouteError, match="exchange 'results' leads to no queue"):
        transport.commit([Outgoing("q", 1, exchange="results")])
    with pytest.raises(NoRouteError, match="no exchange 'absent'"):
        transport.commit([Outgoing("q", 1, exchange="absent")])
    transport.send("q", "others are not touched")
    assert transport.inspector().waiting("q") == 1


@pytest.mark.parametrize("kind", ["quorum", "classic"])
def test_a_dead_letter_has_the_history_that_the_originals_read(server: Server, kind: str) -> None:
    server.queue("q", kind)
    transport = server.connect()
    transport.subscribe("q")
    transport.send("q", {"a": 1}, {"k": "v"})
    delivery = transport.receive(5)
    assert delivery
    delivery.dead_letter("because")
    transport.flush()
    channel = server.channel()
    _, properties, body = channel.basic_get("dlq.q")
    assert json.loads(body) == {"a": 1}
    death = properties.headers["x-death"][0]
    assert (death["queue"], death["exchange"], death["reason"]) == ("q", "", "rejected")
    assert death["time"].timestamp() == pytest.approx(time.time(), abs=86400)
    assert properties.headers["dlq-reason"] == "because"
    assert properties.headers["k"] == "v"
    channel.connection.close()


def test_messages_of_others_are_taken(server: Server) -> None:
    server.queue("q")
    channel = server.channel()
    for body in (b'{"plain": true}', b"\xff\x00", b"[" * 100_000, b""):
        channel.basic_publish("", "q", body)
    table = {"n": None, "t": {"x": [1, b"\xff"]}, "b": True}
    channel.basic_publish("", "q", b"1", pika.BasicProperties(headers=table))
    channel.connection.close()
    transport = server.connect()
    transport.subscribe("q", 10)
    bodies = []
    while delivery := transport.receive(1):
        bodies.append((delivery.message.body, dict(delivery.message.headers)))
        delivery.ack()
    transport.flush()
    assert [body for body, _ in bodies] == [{"plain": True}, 1]
    headers = bodies[1][1]
    assert headers["t"] == {"x": [1, "\ufffd"]}
    assert transport.inspector().dead_letters() == {"q": 3}
    transport.inspector().subscribe_dead_letters("q", 10)
    reasons = []
    while delivery := transport.receive(1):
        reasons.append(delivery.reason)
        delivery.ack()
    assert sorted(reason[:25] for reason in reasons) == [
        "The message is empty; a J", "The message is nested too", "The message is not valid ",
    ]  # fmt: skip


def test_headers_that_amqp_does_not_know_are_sent_all_the_same(server: Server) -> None:
    server.queue("q")
    transport = server.connect()
    headers = {"f": 1.5, "i": 2.0, "huge": 2**70, "deep": {"l": [1.25, None, True]}}
    transport.send("q", 1, headers)
    transport.subscribe("q")
    delivery = transport.receive(5)
    assert delivery
    got = delivery.message.headers
    assert (got["f"], got["i"], got["huge"]) == ("1.5", 2, str(2**70))
    assert got["deep"] == {"l": ["1.25", None, True]}
    delivery.ack()
    with pytest.raises(EncodingError, match="cannot be written as AMQP"):
        transport.send("q", 1, {"k" * 300: 1})
    transport.send("q", 2)
    assert transport.receive(5), "the connection goes on"


# -- what people are told ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "kind", "complaint"),
    [
        ({"password": "s3cret"}, ConfigurationError, "refuses user 'admin': the user or the passw"),
        ({"vhost": "nosuch"}, ConfigurationError, "use vhost 'nosuch'"),
        pytest.param(
            {"port": 9},
            TransportError,
            "127.0.0.1:9 refuses the connection: nothing listens there",
            id="port",
        ),
        ({"host": "no.such.host.invalid"}, TransportError, "the name does not resolve"),
        ({"port": "70000"}, ConfigurationError, "port is '70000'; a number up to 65535"),
        ({"host": "a,b", "port": "1,2,3"}, ConfigurationError, "2 hosts and 3 ports"),
    ],
)
def test_each_wrong_setting_is_one_sentence(
    server: Server, changes: dict[str, Any], kind: type[ZwrapError], complaint: str
) -> None:
    with pytest.raises(kind) as caught:
        server.connect(**changes)
    assert complaint in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_a_queue_that_does_not_exist_is_an_error(server: Server) -> None:
    transport = server.connect()
    with pytest.raises(NoRouteError, match="queue 'nosuch' does not exist"):
        transport.send("nosuch", 1)
    with pytest.raises(
        ConfigurationError, match=r"has no such thing: .*nosuch.*configure_rabbitmq"
    ):
        transport.subscribe("nosuch")
    with pytest.raises(MessageError, match="Queue 'nosuch' does not exist"):
        transport.inspector().waiting("nosuch")
    server.queue("q")
    transport.send("q", 1)
    assert transport.inspector().waiting("q") == 1, "the connection goes on"


def test_what_leads_to_a_queue_that_does_not_exist_is_a_dead_letter(server: Server) -> None:
    server.queue("q")
    transport = server.connect()
    transport.subscribe("q")
    transport.send("q", 1)
    delivery = transport.receive(5)
    assert delivery
    with transport.unit(delivery) as unit:
        unit.send(Outgoing("nosuch", 2))
    transport.flush()
    time.sleep(0.2)
    transport.flush()
    transport.inspector().subscribe_dead_letters("q")
    dead = transport.receive(5)
    assert dead
    assert "queue 'nosuch' does not exist" in dead.reason


def test_a_user_who_may_not_declare_is_told(server: Server) -> None:
    server.api.user_put(UserSpec(name="poor", password_hash=hashed("pw"), tags=[]))
    server.allow("poor", configure="^$")
    server.queue("q")
    server.queue("dlq.q")
    poor = server.connect(username="poor", password="pw")
    poor.subscribe("q")
    poor.send("q", 1)
    delivery = poor.receive(5)
    assert delivery
    delivery.dead_letter("works: the dead letter queue is there")
    poor.flush()
    with pytest.raises(NoPermissionError, match="ACCESS_REFUSED"):
        poor.broadcast("topic.that.is.not.there", 1)
    poor.send("q", 2)
    again = poor.receive(5)
    assert again
    assert again.message.body == 2, "the connection goes on"
    server.api.user_delete("poor")


# -- where the server is -------------------------------------------------------------------------


def test_settings_from_url_file_and_options(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    text = (
        "version: 1\nmq: {plugin: pika, host: 'a, b', port: 1, username: u, password: p, vhost: v}"
    )
    configuration = Configuration.from_string(text + "\nenvironments: {default: [mq]}").activate()
    found = server_from(configuration)
    assert found.addresses == (("a", 1), ("b", 1))
    monkeypatch.setenv("RABBITMQ_URL", "amqps://me:p%40ss@mq.org/z%2F1?heartbeat=17")
    found = server_from(configuration)
    assert (found.username, found.password, found.vhost) == ("me", "p@ss", "z/1")
    assert (found.heartbeat_s, found.tls, found.addresses) == (17, True, (("mq.org", 1),))
    monkeypatch.setenv("RABBITMQ_HEARTBEAT", "5")
    assert server_from(configuration).heartbeat_s == 5, "as amqp-dispatcher: before the URL"
    monkeypatch.setenv("RABBITMQ_HEARTBEAT", "soon")
    with pytest.raises(ConfigurationError, match="RABBITMQ_HEARTBEAT is 'soon'"):
        server_from(configuration)
    monkeypatch.delenv("RABBITMQ_HEARTBEAT")
    (tmp_path / "rabbit.ini").write_text("[rabbit]\nhost = c\nport = 3\npassword = x%y\n")
    options = BrokerOptions(conf=str(tmp_path / "rabbit.ini"), username="opt")
    found = server_from(configuration, options)
    assert (found.addresses, found.username, found.password) == ((("c", 3),), "opt", "x%y")


def test_a_url_may_name_several_hosts_with_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    for hosts, expected in (
        ("h1:1,h2:2", (("h1", 1), ("h2", 2))),
        ("h1,h2:2", (("h1", 5672), ("h2", 2))),
        ("h1,h2", (("h1", 5672), ("h2", 5672))),
        ("[::1]:7", (("::1", 7),)),
    ):
        monkeypatch.setenv("RABBITMQ_URL", f"amqp://u:p%2F@{hosts}/v")
        assert server_from(Configuration()).addresses == expected
    monkeypatch.setenv("RABBITMQ_URL", "amqp://u:s3/cret@h:1/v")
    with pytest.raises(ConfigurationError, match="percent-encoded") as caught:
        server_from(Configuration())
    assert "s3" not in str(caught.value)


@pytest.mark.parametrize("url", ["http://x", "amqp://", "amqp://u:s3cret@h:port/", "nonsense"])
def test_a_url_that_is_none_is_said_without_its_password(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("RABBITMQ_URL", url)
    with pytest.raises(ConfigurationError, match="RABBITMQ_URL") as caught:
        server_from(Configuration())
    assert "s3cret" not in str(caught.value)


# -- faults --------------------------------------------------------------------------------------


def test_a_queue_that_refuses_is_waited_for_and_costs_no_attempt(server: Server) -> None:
    server.queue("in")
    full = {"x-max-length": 1, "x-overflow": "reject-publish"}
    server.queue("out", "classic", **full)
    transport = server.connect()
    transport.subscribe("in", 5)
    for number in range(3):
        transport.send("in", number)
        delivery = transport.receive(5)
        assert delivery
        with transport.unit(delivery) as unit:
            unit.send(Outgoing("out", number))
    assert transport.receive(1.5) is None, "nothing comes again"
    reader = server.connect()
    reader.subscribe("out")
    found = set()
    for _ in range(3):
        delivery = reader.receive(10)
        assert delivery
        found.add(delivery.message.body)
        delivery.ack()
    assert found == {0, 1, 2}
    transport.flush()
    assert (transport.inspector().waiting("in"), transport.inspector().dead_letters()) == (0, {})


def test_a_queue_that_is_deleted_and_made_again_is_read_again(server: Server) -> None:
    server.queue("q")
    transport = server.connect()
    transport.subscribe("q")
    server.api.queue_delete(server.vhost, "q")
    time.sleep(1.5)
    server.queue("q")
    transport.send("q", "again")
    delivery = transport.receive(20)
    assert delivery
    assert delivery.message.body == "again"


def test_a_delivery_that_the_server_took_back_is_not_ours(server: Server) -> None:
    """An unknown delivery tag closes the channel (406); what it held comes again."""
    server.queue("q")
    transport = server.connect()
    transport.subscribe("q")
    transport.send("q", 1)
    delivery = transport.receive(5)
    assert delivery
    held = transport._held[delivery]
    transport._connection.call(lambda: held.channel.basic_ack(4711))
    again = transport.receive(20)
    assert again
    assert (again.message.id, again.delivery_count) == (delivery.message.id, 2)
    with transport.unit(delivery) as unit:
        unit.send(Outgoing("q", "must not be sent"))
    again.ack()
    transport.flush()
    assert transport.receive(0.5) is None


@pytest.fixture(scope="module")
def breakable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Breakable]:
    made = Breakable(tmp_path_factory.mktemp("breakable"))
    yield made
    made.server.api.close()
    made.rig("down")


def test_a_full_disk_holds_messages_up_and_loses_none(breakable: Breakable) -> None:
    server = breakable.server
    server.queue("full")
    transport = server.connect()
    transport.send("full", 0)
    breakable.ctl("set_disk_free_limit", "1000000GB")
    sent: list[int] = []
    thread = threading.Thread(
        target=lambda: [(transport.send("full", n), sent.append(n)) for n in range(1, 20)]
    )
    thread.start()
    time.sleep(3)
    assert sent == [], "the server takes nothing"
    assert "the server takes no messages" in transport._connection.state
    breakable.ctl("set_disk_free_limit", "1MB")
    thread.join(30)
    assert sent == list(range(1, 20))
    reader = server.connect()
    reader.subscribe("full", 50)
    bodies = [delivery.message.body for _ in range(20) if (delivery := reader.receive(5))]
    assert bodies == list(range(20))


def test_a_handler_that_outlives_the_consumer_timeout(breakable: Breakable) -> None:
    """The server takes the message back (406); it comes again, and the late unit sends nothing."""
    for name, value in (("consumer_timeout", 2000), ("channel_tick_interval", 500)):
        breakable.ctl("eval", f"application:set_env(rabbit, {name}, {value}).")
    server = breakable.server
    for name in ("slow", "out"):
        server.queue(name)
    transport = server.connect()
    transport.subscribe("slow")
    transport.send("slow", 1)
    delivery = transport.receive(5)
    assert delivery
    again = transport.receive(30)
    assert again
    assert (again.message.id, again.delivery_count) == (delivery.message.id, 2)
    with transport.unit(delivery) as unit:
        unit.send(Outgoing("out", "late"))
    with transport.unit(again) as unit:
        unit.send(Outgoing("out", "in time"))
    transport.flush()
    transport.subscribe("out", 5)
    first = transport.receive(5)
    assert first
    assert first.message.body == "in time"
    first.ack()
    assert transport.receive(1) is None


# -- what is handed out again and again --------------------------------------------------------


def test_what_the_server_puts_aside_says_what_it_was_about(
    server: Server, site: Site, tmp_path: Path
) -> None:
    dead = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dlq.q"}
    server.queue("q", "quorum", **{"x-delivery-limit": 2}, **dead)
    server.queue("dlq.q")
    envelope = {
        "recipe": {"1": {"service": "xia2"}, "start": [[1, []]]},
        "recipe-pointer": 1,
        "recipe-path": [7, 3],
        "environment": {"ID": "abc-1"},
        "payload": {},
    }
    transport = server.connect()
    transport.send("q", envelope, {"workflows-recipe": True})
    channel = server.channel()
    for _ in range(3):  # a consumer that knows nothing of all this
        deadline = time.monotonic() + 10
        while not (method := channel.basic_get("q")[0]):
            assert time.monotonic() < deadline
        channel.basic_nack(method.delivery_tag, requeue=True)
    channel.connection.close()
    deadline = time.monotonic() + 10
    while transport.inspector().dead_letters() != {"q": 1}:
        assert time.monotonic() < deadline
    on_server(site, server)
    shown = site.run("zwrap", "peek", "q", "--dead")
    for words in (
        "The broker put it aside: delivery_limit.",
        "It was working on node 1 (xia2) of recipe abc-1.",
        "Its route: 7 -> 3 -> 1",
    ):
        assert words in shown.stdout, shown
    assert transport.inspector().dead_letters() == {"q": 1}, "a look costs nothing"
    purged = site.run("zocalo.dlq_purge", "--location", str(tmp_path / "DLQ"))
    assert purged.returncode == 0
    [file] = (tmp_path / "DLQ").glob("*/msg-*")
    assert "Its route: 7 -> 3 -> 1" in json.loads(file.read_text())["header"]["dlq-reason"]


def test_an_audit_names_queues_that_keep_a_message_for_ever(server: Server, site: Site) -> None:
    dead = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dlq.good"}
    server.queue("good", "quorum", **{"x-delivery-limit": 5}, **dead)
    server.queue("dlq.good")
    server.queue("endless", "quorum")
    server.queue("forgetful", "quorum", **{"x-delivery-limit": 5})
    server.queue("old", "classic")
    on_server(site, server)
    checked = site.run("zwrap", "check", "--broker")
    warnings = [line for line in checked.stdout.splitlines() if line.startswith("warning")]
    assert [warning.split("'")[1] for warning in warnings] == ["endless", "forgetful", "old"]
    assert "has no delivery-limit" in warnings[0]
    assert "is thrown away. Exchange '' with routing key 'dlq.forgetful' keeps it" in warnings[1]
    assert "is a classic one, which does not count" in warnings[2]
    site.service("Schlockmeister")
    log = site.directory / "Schlockmeister.log"
    deadline = time.monotonic() + 20
    while "'forgetful' has no dead-letter-exchange" not in log.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    told = "RabbitMQ does not show how often a waiting message was delivered"
    assert log.read_text().count(told) == 1, "what does its work there is said in one line"
    done = site.run(sys.executable, str(RIG.parent / "schlockmeister"))
    assert (done.returncode, done.stderr.count(told)) == (0, 1), "the script says so, and ends"


def test_a_dead_letter_may_be_looked_at_any_number_of_times(server: Server) -> None:
    """RabbitMQ 4 throws away what was given back 20 times; here any dead letter queue does."""
    server.queue("q")
    server.queue("dlq.q", "quorum", **{"x-delivery-limit": 3})
    transport = server.connect()
    transport.subscribe("q")
    transport.send("q", 1)
    first = transport.receive(5)
    assert first
    first.dead_letter("because")
    transport.flush()
    reader = server.connect()
    reader.inspector().subscribe_dead_letters("q")
    for _ in range(8):
        delivery = reader.receive(5)
        assert delivery
        assert delivery.reason == "because"
        delivery.retry()
        reader.flush()
    reader.close()
    deadline = time.monotonic() + 10
    while transport.inspector().dead_letters() != {"q": 1}:
        assert time.monotonic() < deadline


def on_server(site: Site, server: Server) -> None:
    """Let the commands of a site use a vhost."""
    keys = ("host", "port", "username", "password", "vhost")
    user = {key: server.given[key] for key in ("username", "password")}
    sections = {
        "mq": {"plugin": "pika", **{key: server.given[key] for key in keys}},
        "api": {"plugin": "rabbitmqapi", "base_url": server.given["api"], **user},
        "chosen": {"plugin": "transport", "default": "PikaTransport"},
        "environments": {"default": ["mq", "api", "chosen"]},
    }
    site.config.write_text(json.dumps({"version": 1, **sections}))
