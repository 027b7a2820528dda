"""Messages on real brokers when things go wrong: the same happens on each of them."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from zwrap.errors import TransportError
from zwrap.message.content import Outgoing
from zwrap.transport.contract import Transport

from . import prefix, vhost
from .conftest import Site
from .messages import FORWARDER, Forwarding, Proxy, drained

pytestmark = pytest.mark.slow

RIG = Path(__file__).parents[2] / "scripts" / "rig"


class Broker:
    """A place of its own on a real server; its queues are made as the broker wants it."""

    def __init__(self, name: str, server: vhost.Server | prefix.Server) -> None:
        system, _, self.kind = name.partition(" ")
        self.server = server
        self.transport = "PikaTransport" if system == "rabbitmq" else "StompTransport"
        self.given = server.given

    def connect(self, **changes: Any) -> Transport:
        return self.server.connect(**changes)

    def make(self, *queues: str) -> None:
        if isinstance(self.server, vhost.Server):
            for queue in queues:
                self.server.queue(queue, self.kind or "quorum")

    def forwarder(self, code: str = FORWARDER) -> list[str]:
        """Return the command that sends each message of `in` on to `out`, until none comes."""
        return [sys.executable, "-P", "-c", code, self.server.text(), self.transport]


class Own:
    """A server of its own, to be killed."""

    def __init__(self, name: str, directory: Path) -> None:
        self._system = name.partition(" ")[0]
        self._directory = directory
        self.rig("up")
        given = json.loads((directory / "connection.json").read_text())
        module = vhost if self._system == "rabbitmq" else prefix
        self.broker = Broker(name, module.Server(given))

    def rig(self, action: str) -> None:
        command = [sys.executable, str(RIG), self._system, action]
        command += ["--directory", str(self._directory)]
        subprocess.run(command, check=True, capture_output=True)

    def kill(self) -> None:
        os.kill(int((self._directory / "pid").read_text()), signal.SIGKILL)


EACH = ["rabbitmq quorum", "rabbitmq classic", "activemq"]
"""Where the kind of a queue matters."""


@pytest.fixture(params=["rabbitmq", "activemq"])
def broker(request: pytest.FixtureRequest) -> Iterator[Broker]:
    system = request.param.partition(" ")[0]
    module = vhost if system == "rabbitmq" else prefix
    server: vhost.Server | prefix.Server
    for server in module.opened(request.getfixturevalue(system)):
        yield Broker(request.param, server)


@pytest.fixture(params=["rabbitmq", "activemq"])
def own(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Own]:
    made = Own(request.param, tmp_path / "own")
    yield made
    made.broker.server.close()
    made.rig("down")


def test_a_server_that_accepts_and_is_silent_is_said(broker: Broker) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(TransportError, match="accepts the connection and does not answer"):
            broker.connect(port=silent.getsockname()[1])


def test_the_next_host_is_tried(broker: Broker) -> None:
    port = broker.given["port"]
    transport = broker.connect(host="127.0.0.1,127.0.0.1,127.0.0.1", port=f"9,{port},9")
    broker.make("q")
    transport.send("q", 1)
    assert transport.inspector().waiting("q") == 1


@pytest.mark.parametrize("own", EACH, indirect=True)
def test_a_restarted_server_loses_no_message_and_needs_no_help(own: Own) -> None:
    """10 000 messages through a consumer while the server is killed and started again."""
    broker = own.broker
    broker.make("in", "out")
    if broker.kind:
        # RabbitMQ 3.10: a quorum queue younger than a second has no leader after a crash, for ever.
        time.sleep(2)
    sender, worker = broker.connect(), broker.connect()
    worker.subscribe("in", 20)
    with Forwarding(worker) as forwarding:
        for number in range(10_000):
            sender.send("in", number)
            if number == 4000:
                own.kill()
                own.rig("up")
        forwarding.wait_for(10_000)
    ids = drained(broker.connect(), "out", 10_000)
    assert len(ids) == 10_000, "each message has led to one other, under one id"


def test_what_a_sender_gave_up_is_not_sent_later(own: Own, monkeypatch: pytest.MonkeyPatch) -> None:
    own.broker.make("q")
    transport = own.broker.connect()
    own.rig("down")
    monkeypatch.setattr("zwrap.transport.pipelined.SEND_WAIT_S", 1.0)
    with pytest.raises(TransportError, match="did not confirm a message within 1 s: the connec"):
        transport.send("q", "not sent")
    own.rig("up")
    monkeypatch.undo()
    transport.send("q", "sent")
    assert transport.inspector().waiting("q") == 1


@pytest.mark.parametrize("broker", EACH, indirect=True)
def test_killed_consumers_lose_no_message(broker: Broker) -> None:
    count = 3000
    broker.make("in", "out")
    transport = broker.connect()
    transport.commit([Outgoing("in", number) for number in range(count)])
    inspector = transport.inspector()
    for _ in range(4):
        process = subprocess.Popen(broker.forwarder())
        before = inspector.waiting("out")
        while inspector.waiting("out") == before:
            time.sleep(0.01)
        time.sleep(0.05)
        process.kill()
        process.wait()
    assert subprocess.run(broker.forwarder(), check=False).returncode == 0
    ids = drained(transport, "out", count)
    assert inspector.dead_letters() == {}
    assert len(ids) == count
    if broker.transport == "StompTransport":
        assert sum(ids.values()) == count, "a transaction of the server takes effect once"
    assert inspector.waiting("in") == 0


def test_a_handler_may_work_longer_than_three_heart_beats(broker: Broker) -> None:
    broker.make("q")
    transport = broker.connect(heartbeat_s=1)
    transport.subscribe("q")
    transport.send("q", 1)
    delivery = transport.receive(5)
    assert delivery
    time.sleep(4)
    delivery.ack()
    transport.flush()
    assert transport.inspector().waiting("q") == 0
    assert transport.receive(0.5) is None


@pytest.mark.parametrize("broker", EACH, indirect=True)
def test_a_message_that_its_receivers_die_of_is_counted(broker: Broker) -> None:
    broker.make("in")
    broker.connect().send("in", "poison")
    code = FORWARDER.replace("    with transport", "    import os; os._exit(9)\n    with transport")
    for _ in range(3):
        assert subprocess.run(broker.forwarder(code), check=False).returncode == 9
    transport = broker.connect()
    transport.subscribe("in")
    delivery = transport.receive(5)
    assert delivery
    assert delivery.delivery_count == 4


def test_a_link_that_swallows_everything_for_a_while(
    broker: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    """Six heart-beats long nothing passes; nothing is lost, and nobody has to help."""
    proxy = Proxy(broker.given["host"], broker.given["port"])
    try:
        broker.make("in", "out")
        worker = broker.connect(port=proxy.port, heartbeat_s=2)
        sender = broker.connect()
        worker.subscribe("in", 20)
        with Forwarding(worker) as forwarding:
            for number in range(600):
                sender.send("in", number)
                if number == 200:
                    proxy.stalled.set()
                    threading.Timer(12, proxy.stalled.clear).start()
            forwarding.wait_for(600)
        ids = drained(sender, "out", 600)
        assert len(ids) == 600, "each message has led to one other, under one id"
        assert sum(ids.values()) <= 600 + 20, "at most what was on its way comes twice"
        assert "connected again" in caplog.text, "it was noticed, and not waited for for ever"
    finally:
        proxy.close()


def test_a_recipe_runs_over_a_broker(site: Site, broker: Broker, tmp_path: Path) -> None:
    """Dispatcher, Runner and a wrapper in it, as on a site."""
    broker.make("processing_recipe", "runner.submission", "done")
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
    file = site.recipes / "r.json"
    file.write_text(json.dumps(recipe))
    values = json.loads(broker.server.text())["mq"]
    chosen = {"plugin": "transport", "default": broker.transport}
    site.config.write_text(
        site.config.read_text().replace("[store, files]", "[store, mq, chosen]")
        + f"mq: {json.dumps(values)}\nchosen: {json.dumps(chosen)}\n"
    )
    done = site.run("zocalo.go", "-r", "r", "-s", "word=hello", "1")
    assert done.returncode == 0, done.stderr
    for name in ("Dispatcher", "Runner"):
        done = site.run("zocalo.service", "-s", name, "--lifetime", "3")
        assert done.returncode == 0, done.stderr
    transport = broker.connect()
    transport.subscribe("done", 5)
    payloads = []
    while delivery := transport.receive(1):
        payloads.append(delivery.message.body["payload"])
    assert payloads == ["Finished processing", {"processed": True, "exit_status": [0]}]
    request = ("zocalo.go", "-n", "-f", str(file))
    if broker.transport == "StompTransport":
        done = site.run(*request, "--stomp-port", "9")
        assert done.returncode == 111
        assert "127.0.0.1:9 refuses the connection" in done.stderr
    else:
        done = site.run(*request, "--rabbit-user", "nobody")
        assert done.returncode == 100
        assert "refuses user 'nobody'" in done.stderr
