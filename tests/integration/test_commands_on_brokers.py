"""The command line does the same on every transport."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from zwrap.configuration.site import Configuration

from .conftest import Site, transport_of


def ok(bus: Site, *command: str, **options: Any) -> str:
    done = bus.run(*command, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


def publish(bus: Site, queue: str, *bodies: Any) -> None:
    file = bus.directory / "bodies"
    file.write_text("".join(json.dumps(body) + "\n" for body in bodies))
    said = ok(bus, "zwrap", "publish", "--lines", queue, str(file))
    assert said == f"{len(bodies)} message(s) sent.\n"


def taken(bus: Site, queue: str) -> list[Any]:
    transport = transport_of(bus)
    transport.subscribe(queue, 10)
    bodies = []
    while delivery := transport.receive(1):
        bodies.append(delivery.message.body)
        delivery.ack()
    transport.close()
    return bodies


def test_a_queue_by_hand(bus: Site) -> None:
    publish(bus, "a", *range(5))
    shown = ok(bus, "zwrap", "peek", "-n", "5", "a")
    assert [json.loads(part)["message"] for part in parts(shown)] == list(range(5))
    assert {json.loads(part)["attempt"] for part in parts(shown)} == {1}
    assert {json.loads(part)["delivery_count"] for part in parts(shown)} == {1}
    assert ok(bus, "zwrap", "drain", "a", "b") == "5 message(s) moved.\n"
    assert ok(bus, "zwrap", "peek", "a") == "Nothing waits in a.\n"
    refused = bus.run("zwrap", "purge", "b")
    assert (refused.returncode, "--yes" in refused.stderr) == (100, True)
    assert "There are 5 message(s) in b." in refused.stderr
    assert ok(bus, "zwrap", "purge", "b", "--yes") == "5 message(s) deleted.\n"
    assert taken(bus, "b") == []


def parts(shown: str) -> list[str]:
    return [part + "\n}" for part in shown.split("\n}\n") if part]


def test_headers_and_delay_are_published(bus: Site, tmp_path: Path) -> None:
    (tmp_path / "m.json").write_text('{"a": 1}')
    ok(
        bus,
        "zwrap",
        "publish",
        "--header",
        "k=v=w",
        "--delay",
        "0.5",
        "a",
        str(tmp_path / "m.json"),
    )
    transport = transport_of(bus)
    transport.subscribe("a")
    delivery = transport.receive(10)
    assert delivery
    assert (delivery.message.body, delivery.message.headers["k"]) == ({"a": 1}, "v=w")
    delivery.ack()
    transport.close()


def namespace_of(bus: Site) -> str:
    """Return the vhost or prefix of a site; empty where there is none."""
    site = Configuration.from_file(bus.config).activate().site
    return (site.pika and site.pika.vhost) or (site.stomp and site.stomp.prefix) or ""


def test_dead_letters_are_exported_and_put_back_through_a_pipe(bus: Site) -> None:
    publish(bus, "a", 1, 2)
    transport = transport_of(bus)
    transport.subscribe("a")
    for _ in range(2):
        delivery = transport.receive(10)
        assert delivery
        delivery.dead_letter("because")
    transport.close()
    checked = bus.run("zocalo.dlq_check")
    assert (checked.returncode, "DLQ for a contains 2 entries" in checked.stdout) == (1, True)
    mine = namespace_of(bus)
    counted = [bus.run("zocalo.dlq_check", "-n", name) for name in (mine or "mine", "zocola")]
    assert [each.returncode for each in counted] == ([1, 100] if mine else [100, 100])
    assert "No DLQ messages" not in "".join(each.stdout for each in counted)
    shown = ok(bus, "zwrap", "peek", "--dead", "-n", "2", "a")
    assert [json.loads(part)["reason"] for part in parts(shown)] == ["because", "because"]
    line = "zocalo.dlq_purge | zocalo.dlq_reinject -r"
    ok(bus, "bash", "-o", "pipefail", "-c", line)
    assert list((bus.directory / "DLQ").rglob("msg-*")) == []
    assert sorted(taken(bus, "a")) == [1, 2]
    assert ok(bus, "zocalo.dlq_check") is not None


def test_dead_letters_are_drained_and_purged(bus: Site) -> None:
    publish(bus, "a", 1, 2)
    for command in (("drain", "--dead", "a", "b"), ("purge", "--dead", "--yes", "a")):
        transport = transport_of(bus)
        transport.subscribe("a")
        delivery = transport.receive(10)
        assert delivery
        delivery.dead_letter("because")
        transport.close()
        assert ok(bus, "zwrap", *command).startswith("1 message(s)")
        assert transport_of(bus).inspector().dead_letters() == {}
    assert taken(bus, "b") == [1]


def test_requests_move_on(bus: Site) -> None:
    """zocalo.queue_drain, and zocalo.pickup of what zocalo.go could not send."""
    publish(bus, "a", {"k": 1}, {"k": 2})
    said = ok(bus, "zocalo.queue_drain", "--wait", "0", "--stop", "1", "a", "b")
    assert "2 message(s) drained" in said
    assert taken(bus, "b") == [{"k": 1}, {"k": 2}]
    drop = bus.directory / "drop"
    drop.mkdir()
    (drop / "f").write_text(json.dumps({"headers": {}, "message": {"recipes": ["r"]}}))
    ok(bus, "zocalo.pickup", "-w", "0", "-d", "0")
    assert taken(bus, "processing_recipe") == [{"recipes": ["r"]}]


@pytest.mark.parametrize(
    ("command", "complaint"),
    [
        (("publish", "a", "nofile"), "nofile cannot be read"),
        (("publish", "--header", "x", "a", "nofile"), "NAME=VALUE is expected"),
        (("peek", "-n", "0", "a"), "a number from 1 on is expected"),
        (("drain", "a", "a"), "SOURCE and DEST are both 'a'"),
    ],
)
def test_bad_input_is_one_sentence(site: Site, command: tuple[str, ...], complaint: str) -> None:
    done = site.run("zwrap", *command)
    assert (done.returncode, done.stderr.count("\n")) == (100, 1)
    assert complaint in done.stderr


def test_a_line_that_is_no_json_is_named_and_none_is_sent(site: Site) -> None:
    (site.directory / "x").write_text("1\n{\n")
    done = site.run("zwrap", "publish", "--lines", "a", "x")
    assert done.returncode == 100
    assert "line 2 of x is not valid JSON" in done.stderr
    assert taken(site, "a") == []
