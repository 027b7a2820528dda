"""What happens to messages on a real ActiveMQ when things go wrong, and what people are told."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import stomp

from zwrap.configuration.site import Configuration
from zwrap.errors import ConfigurationError, TransportError, ZwrapError
from zwrap.message import ID_HEADER, Outgoing
from zwrap.transport.stomp.settings import server_from
from zwrap.transport.stomp.transport import StompTransport

from .conftest import Site
from .messages import FORWARDER, Forwarding, Proxy, drained

pytestmark = pytest.mark.slow

RIG = Path(__file__).parents[2] / "scripts" / "rig"


class Recorder(stomp.ConnectionListener):  # type: ignore[misc]  # stomp.py has no types
    """stomp.py's own client, which keeps what comes."""

    def __init__(self, given: dict[str, Any]) -> None:
        self.frames: list[Any] = []
        self._subscribed = threading.Event()
        self.connection = stomp.Connection11([(given["host"], given["port"])], auto_decode=False)
        self.connection.set_listener("", self)
        self.connection.connect("admin", "admin", wait=True)

    def on_message(self, received: Any) -> None:
        self.frames.append(received)

    def on_receipt(self, received: Any) -> None:
        self._subscribed.set()

    def subscribe(self, destination: str) -> None:
        self.connection.subscribe(destination, id="1", ack="auto", receipt="subscribed")
        assert self._subscribed.wait(10)

    def wait_for(self, count: int) -> list[Any]:
        deadline = time.monotonic() + 10
        while len(self.frames) < count:
            assert time.monotonic() < deadline, self.frames
            time.sleep(0.01)
        return self.frames


class Server:
    """A prefix of its own on a server."""

    def __init__(self, given: dict[str, Any]) -> None:
        self.given = given
        self.prefix = f"test-{uuid.uuid4().hex}"
        self.open: list[StompTransport] = []
        self.recorders: list[Recorder] = []

    def text(self, **changes: Any) -> str:
        keys = ("host", "port", "username", "password")
        mq = {"plugin": "stomp", "prefix": self.prefix, **{key: self.given[key] for key in keys}}
        jmx = {"plugin": "jmx", **{key: self.given[key] for key in keys}}
        jmx |= {"port": self.given["jolokia_port"], "base_url": self.given["jolokia_base_url"]}
        return json.dumps(
            {
                "version": 1,
                "mq": {**mq, **changes},
                "jmx": jmx,
                "environments": {"default": ["mq", "jmx"]},
            }
        )

    def connect(self, **changes: Any) -> StompTransport:
        configuration = Configuration.from_string(self.text(**changes)).activate()
        self.open.append(StompTransport.from_configuration(configuration))
        return self.open[-1]

    def recorder(self) -> Recorder:
        self.recorders.append(Recorder(self.given))
        return self.recorders[-1]

    def close(self) -> None:
        for transport in self.open:
            transport.close()
        for recorder in self.recorders:
            recorder.connection.disconnect()


@pytest.fixture
def server(activemq: dict[str, Any]) -> Iterator[Server]:
    made = Server(activemq)
    yield made
    made.close()


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
    while transport.dead_letters() != {"q": 1}:
        assert time.monotonic() < deadline
    transport.subscribe_dead_letters("q")
    dead = transport.receive(5)
    assert dead
    assert dead.message.body == {"a": 1}


def test_messages_of_others_are_taken(server: Server) -> None:
    transport, recorder = server.connect(), server.recorder()
    place = f"/queue/{server.prefix}.q"
    for body in (b'{"plain": true}', b"\xff\x00", b"[" * 100_000, b""):
        recorder.connection.send(place, body)
    transport.subscribe("q", 10)
    bodies = []
    while delivery := transport.receive(1):
        bodies.append(delivery.message.body)
        delivery.ack()
    assert bodies == [{"plain": True}]
    assert transport.dead_letters() == {"q": 3}


def test_a_large_message_goes_through(server: Server) -> None:
    transport = server.connect()
    transport.subscribe("q")
    transport.send("q", "x" * 50_000_000)
    delivery = transport.receive(60)
    assert delivery
    assert len(delivery.message.body) == 50_000_000
    delivery.ack()


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


def test_a_server_that_accepts_and_is_silent_is_said(server: Server) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(TransportError, match="accepts the connection and does not answer"):
            server.connect(port=silent.getsockname()[1])


def test_the_next_host_is_tried(server: Server) -> None:
    port = server.given["port"]
    transport = server.connect(host="127.0.0.1,127.0.0.1,127.0.0.1", port=f"9,{port},9")
    transport.send("q", 1)
    assert transport.waiting("q") == 1


def test_without_a_management_address_that_is_said(server: Server) -> None:
    text = json.loads(server.text())
    text["environments"]["default"] = ["mq"]
    configuration = Configuration.from_string(json.dumps(text)).activate()
    transport = StompTransport.from_configuration(configuration)
    server.open.append(transport)
    with pytest.raises(ConfigurationError, match="add a section of plugin 'jmx'"):
        transport.queues()


def test_settings_from_file_and_options(tmp_path: Path) -> None:
    text = "version: 1\nmq: {plugin: stomp, host: a, port: 1, username: u, password: p, prefix: z}"
    configuration = Configuration.from_string(text + "\nenvironments: {default: [mq]}").activate()
    found = server_from(configuration)
    assert (found.addresses, found.prefix) == ((("a", 1),), "z")
    (tmp_path / "stomp.ini").write_text("[stomp]\nhost = c\nport = 3\npassword = x%y\n")
    configuration.options["StompTransport"] = {
        "conf": str(tmp_path / "stomp.ini"), "prfx": "other",
    }  # fmt: skip
    found = server_from(configuration)
    assert (found.addresses, found.prefix, found.password) == ((("c", 3),), "other", "x%y")


# -- faults --------------------------------------------------------------------------------------


def test_a_restarted_server_loses_no_message_and_needs_no_help(tmp_path: Path) -> None:
    """10 000 messages through a consumer while the server is killed and started again."""
    directory = str(tmp_path / "own")
    rig = [sys.executable, str(RIG), "activemq"]
    place = ["--directory", directory]
    subprocess.run([*rig, "up", *place], check=True, capture_output=True)
    try:
        server = Server(json.loads((tmp_path / "own" / "connection.json").read_text()))
        sender, worker = server.connect(), server.connect()
        worker.subscribe("in", 20)
        with Forwarding(worker) as forwarding:
            for number in range(10_000):
                sender.send("in", number)
                if number == 4000:
                    os.kill(int((tmp_path / "own" / "pid").read_text()), signal.SIGKILL)
                    subprocess.run([*rig, "up", *place], check=True, capture_output=True)
            forwarding.wait_for(10_000)
        ids = drained(server.connect(), "out")
        assert len(ids) == 10_000, "each message has led to one other, under one id"
        server.close()
    finally:
        subprocess.run([*rig, "down", *place], check=True, capture_output=True)


def test_what_a_sender_gave_up_is_not_sent_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = [sys.executable, str(RIG), "activemq"]
    place = ["--directory", str(tmp_path / "own")]
    subprocess.run([*rig, "up", *place], check=True, capture_output=True)
    try:
        server = Server(json.loads((tmp_path / "own" / "connection.json").read_text()))
        transport = server.connect()
        subprocess.run([*rig, "down", *place], check=True, capture_output=True)
        monkeypatch.setattr("zwrap.transport.pipelined.SEND_WAIT_S", 1.0)
        with pytest.raises(TransportError, match="did not confirm a message within 1 s: the conn"):
            transport.send("q", "not sent")
        subprocess.run([*rig, "up", *place], check=True, capture_output=True)
        monkeypatch.undo()
        transport.send("q", "sent")
        assert transport.waiting("q") == 1
        server.close()
    finally:
        subprocess.run([*rig, "down", *place], check=True, capture_output=True)


def test_killed_consumers_lose_no_message(server: Server) -> None:
    transport = server.connect()
    transport.commit([Outgoing("in", number) for number in range(2000)])
    command = [sys.executable, "-c", FORWARDER, server.text(), "StompTransport"]
    for _ in range(4):
        process = subprocess.Popen(command)
        before = transport.waiting("out")
        while transport.waiting("out") == before:
            time.sleep(0.01)
        time.sleep(0.1)
        process.kill()
        process.wait()
    assert subprocess.run(command, check=False).returncode == 0
    ids = drained(transport, "out")
    assert transport.dead_letters() == {}
    assert len(ids) == 2000
    assert sum(ids.values()) == 2000, "a transaction of the server takes effect once"
    assert transport.waiting("in") == 0


def test_a_handler_may_work_longer_than_three_heart_beats(server: Server) -> None:
    transport = server.connect(heartbeat_s=1)
    transport.subscribe("q")
    transport.send("q", 1)
    delivery = transport.receive(5)
    assert delivery
    time.sleep(4)
    delivery.ack()
    transport.flush()
    assert transport.waiting("q") == 0
    assert transport.receive(0.5) is None


def test_a_message_that_its_receivers_die_of_is_counted(server: Server) -> None:
    server.connect().send("in", "poison")
    code = FORWARDER.replace("    with transport", "    import os; os._exit(9)\n    with transport")
    command = [sys.executable, "-c", code, server.text(), "StompTransport"]
    for _ in range(3):
        assert subprocess.run(command, check=False).returncode == 9
    transport = server.connect()
    transport.subscribe("in")
    delivery = transport.receive(5)
    assert delivery
    assert delivery.delivery_count == 4


def test_a_link_that_swallows_everything_for_a_while(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    """Six heart-beats long nothing passes; nothing is lost, and nobody has to help."""
    proxy = Proxy(server.given["host"], server.given["port"])
    try:
        worker = server.connect(port=proxy.port, heartbeat_s=2)
        sender = server.connect()
        worker.subscribe("in", 20)
        with Forwarding(worker) as forwarding:
            for number in range(600):
                sender.send("in", number)
                if number == 200:
                    proxy.stalled.set()
                    threading.Timer(12, proxy.stalled.clear).start()
            forwarding.wait_for(600)
        ids = drained(sender, "out")
        assert len(ids) == 600, "each message has led to one other, under one id"
        assert sum(ids.values()) <= 600 + 20, "at most what was on its way comes twice"
        assert "connected again" in caplog.text, "it was noticed, and not waited for for ever"
    finally:
        proxy.close()


# -- the main job over ActiveMQ ------------------------------------------------------------------


def test_a_recipe_runs_over_activemq(site: Site, server: Server, tmp_path: Path) -> None:
    """Dispatcher, Runner and a wrapper in it, as on a site."""
    recipe = {
        "start": [[1, []]],
        "1": {
            "queue": "runner.submission",
            "parameters": {
                "workingdir": str(tmp_path / "w"),
                "commands": ["zocalo.wrap --wrap command --recipewrapper $RECIPEWRAP"],
            },
            "job_parameters": {"command": ["sh", "-c", "echo {word}"]},
            "output": {"success": 2, "job_processed": 2},
        },
        "2": {"queue": "done"},
    }
    (site.recipes / "r.json").write_text(json.dumps(recipe))
    values = json.loads(server.text())["mq"]
    site.config.write_text(
        site.config.read_text().replace("[store, files]", "[store, mq, chosen]")
        + f"mq: {json.dumps(values)}\nchosen: {{plugin: transport, default: StompTransport}}\n"
    )
    done = site.run("zocalo.go", "-r", "r", "-s", "word=hello", "1")
    assert done.returncode == 0, done.stderr
    for name in ("Dispatcher", "Runner"):
        done = site.run("zocalo.service", "-s", name, "--lifetime", "3")
        assert done.returncode == 0, done.stderr
    transport = server.connect()
    transport.subscribe("done", 5)
    payloads = []
    while delivery := transport.receive(1):
        payloads.append(delivery.message.body["payload"])
    assert payloads == ["Finished processing", {"processed": True, "exit_status": [0]}]
    done = site.run("zocalo.go", "-n", "-f", str(site.recipes / "r.json"), "--stomp-port", "9")
    assert done.returncode == 111
    assert "127.0.0.1:9 refuses the connection" in done.stderr
