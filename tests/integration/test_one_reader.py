"""A queue with one reader on real servers: one that is killed, and one whose connection is lost."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from zwrap.errors import ConfigurationError
from zwrap.transport.contract import Delivery, Transport
from zwrap.transport.failures import ReadElsewhereError
from zwrap.transport.spool.transport import SpoolTransport

from .conftest import Site, transport_of
from .vhost import Server, opened

Wait = Callable[..., Any]

HOLDING = """
import sys, time
from pathlib import Path
from zwrap.configuration.site import Configuration
from zwrap.transport.connect import connect

transport = connect(Configuration.from_file(Path(sys.argv[1])).activate())
transport.subscribe("q", 4, exclusive=True)
held = [transport.receive(30) for _ in range(4)]
held[0].ack()
transport.flush()
held.append(transport.receive(30))
print([each.message.body for each in held], flush=True)
while True:
    transport.receive(1)
"""
"""A reader that has settled one message, and holds the next four."""


def taken_over(transport: Transport, within_s: float = 20.0) -> None:
    deadline = time.monotonic() + within_s
    while True:
        with contextlib.suppress(ReadElsewhereError):
            transport.subscribe("q", 4, exclusive=True)
            return
        assert time.monotonic() < deadline
        time.sleep(0.05)


def fetched(transport: Transport, number: int) -> list[Delivery]:
    received = [transport.receive(10) for _ in range(number)]
    return [each for each in received if each]


def test_what_a_killed_reader_held_comes_first_and_in_the_old_order(bus: Site) -> None:
    sender = transport_of(bus)
    sender.subscribe("q", 1)  # so that it is made
    sender.unsubscribe("q")
    for number in range(10):
        sender.send("q", number)
    script = bus.directory / "holding.py"
    script.write_text(HOLDING)
    reader = bus.start(sys.executable, "-P", str(script), str(bus.config))
    assert reader.stdout
    assert json.loads(reader.stdout.readline()) == [0, 1, 2, 3, 4]
    reader.send_signal(signal.SIGKILL)
    reader.wait()
    second = transport_of(bus)
    taken_over(second)
    again = fetched(second, 4)
    assert [each.message.body for each in again] == [1, 2, 3, 4]
    assert all(each.delivery_count > 1 for each in again)
    for each in again:
        each.ack()
    rest = fetched(second, 4)
    assert [(each.message.body, each.delivery_count) for each in rest] == [
        (number, 1) for number in range(5, 9)
    ]
    second.close()
    assert sender.inspector().dead_letters() == {}
    sender.close()


# -- RabbitMQ ------------------------------------------------------------------------------------


@pytest.fixture
def server(rabbitmq: dict[str, Any]) -> Iterator[Server]:
    yield from opened(rabbitmq)


def cut(server: Server, wait_until: Wait) -> None:
    """Let the server close all connections to its vhost that it lists."""
    time.sleep(1.5)  # it lists them some time after they began

    def found() -> list[str]:
        listed = server.api.get("connections").json()
        return [each["name"] for each in listed if each.get("vhost") == server.vhost]

    for name in wait_until(found):
        server.api.delete(f"connections/{quote(name, safe='')}")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["classic", "quorum"])
def test_a_reader_that_was_cut_off_reads_on_or_learns_that_another_one_does(
    server: Server, wait_until: Wait, kind: str
) -> None:
    server.queue("q", kind)
    first = server.connect()
    first.subscribe("q", 2, exclusive=True)
    for number in range(4):
        first.send("q", number)
    held = fetched(first, 2)
    assert [each.message.body for each in held] == [0, 1]
    cut(server, wait_until)
    again = fetched(first, 2)
    assert [(each.message.body, each.delivery_count) for each in again] == [(0, 2), (1, 2)]
    with first.unit(held[0]):
        pass  # of the connection that is gone
    again[0].ack()
    first.flush()
    assert fetched(first, 1)[0].message.body == 2
    first._connection.call(lambda: time.sleep(5))  # it comes back later than the other one
    cut(server, wait_until)
    second = server.connect()
    taken_over(second)
    with pytest.raises(ReadElsewhereError, match="is read by another connection"):
        fetched(first, 3)
    assert [each.message.body for each in fetched(second, 2)] == [1, 2]
    second.close()
    taken_over(first)
    assert [each.message.body for each in fetched(first, 2)] == [1, 2]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["classic", "quorum"])
def test_a_reader_of_another_program_is_told_apart(server: Server, kind: str) -> None:
    server.queue("q", kind)
    other, first, second = server.connect(), server.connect(), server.connect()
    other.subscribe("q")  # as another program's connector
    with pytest.raises(ReadElsewhereError, match="another connection, which shares it") as found:
        first.subscribe("q", exclusive=True)
    assert found.value.foreign
    other.close()
    taken_over(first)
    with pytest.raises(ReadElsewhereError, match="another connection, which has it") as found:
        second.subscribe("q", exclusive=True)
    assert not found.value.foreign


@pytest.mark.slow
def test_a_user_who_may_not_make_the_lock_is_told(server: Server) -> None:
    server.queue("q")
    transport = server.connect()
    server.allow(server.given["username"], configure="^amq\\.gen-.*$")
    needed = r"does not let this user read queue 'q' alone, .* to configure \^zwrap"
    with pytest.raises(ConfigurationError, match=needed):
        transport.subscribe("q", exclusive=True)


def test_a_mark_of_an_owner_elsewhere_counts_while_its_lease_is_renewed(tmp_path: Path) -> None:
    """Whether a process of another host lives is seen by its lease alone."""
    transport = SpoolTransport(tmp_path)
    transport.send("q", 1)
    queue = tmp_path / "q"
    elsewhere = "other.host-1-1,0"
    (queue / "readers").mkdir()
    (queue / "pending" / elsewhere).mkdir()
    (queue / "readers" / elsewhere).touch()
    lease = queue / "pending" / elsewhere / ".lease"
    lease.touch()
    with pytest.raises(ReadElsewhereError):
        transport.subscribe("q", exclusive=True)
    old = time.time() - 200
    os.utime(lease, (old, old))
    transport.subscribe("q", exclusive=True)
    assert len(fetched(transport, 1)) == 1
    [mark] = (queue / "readers").iterdir()
    mark.unlink()  # as another reader does, for which our lease has lapsed
    with pytest.raises(ReadElsewhereError):
        transport.receive(1)
    transport.close()
    assert list((queue / "readers").iterdir()) == []
