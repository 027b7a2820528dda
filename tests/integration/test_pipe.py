"""`zwrap pipe` and `zwrap consumers`, as operators use them."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from zwrap.message.content import ID_HEADER
from zwrap.transport.spool.queue import SpoolQueue
from zwrap.transport.spool.views import held

from .conftest import Site, transport_of

Wait = Callable[..., Any]


def put(directory: Path, name: str, content: str) -> None:
    """Write a file in tmp and rename it to incoming, as a foreign filer does."""
    for place in ("tmp", "incoming"):
        (directory / place).mkdir(parents=True, exist_ok=True)
    (directory / "tmp" / name).write_text(content)
    (directory / "tmp" / name).rename(directory / "incoming" / name)


def names(directory: Path, place: str = "incoming") -> list[str]:
    return sorted(each.name for each in (directory / place).iterdir())


def test_from_directory_to_directory_files_pass_as_they_are(site: Site) -> None:
    source, target = site.directory / "a", site.directory / "b"
    put(source, "host.1.1", '{"id": 1}')
    put(source, "host.1.2", "any text at all")
    put(source, "host.1.3", "  ")
    SpoolQueue(source).put([b'{"headers": {}, "message": 4}'])
    [own] = [name for name in names(source) if name.endswith(".zwrap")]
    ended = site.run("zwrap", "pipe", f"{source}", f"{target}", "--once")
    assert ended.stdout == "3 message(s) moved.\n", ended
    assert names(target) == sorted(["host.1.1", "host.1.2", own])
    assert (target / "incoming" / "host.1.1").read_text() == '{"id": 1}'
    assert names(source) == []
    assert names(source, "errors") == ["host.1.3", "host.1.3.reason"], "empty: put aside"
    assert (source / "errors" / "host.1.3.reason").read_text() == "The file is empty.\n"
    assert names(source, "tmp") == names(target, "tmp") == []


@pytest.mark.slow
@pytest.mark.parametrize("bus", ["quorum", "classic", "activemq"], indirect=True)
def test_between_a_directory_and_a_queue_of_a_broker(bus: Site) -> None:
    source, target = bus.directory / "in", bus.directory / "out"
    put(source, "host.1.1", '{"id": 1}')
    put(source, "host.1.2", "no JSON")
    SpoolQueue(source).put([b'{"headers": {"k": "v", "zwrap-id": "own"}, "message": 2}'])
    ended = bus.run("zwrap", "pipe", "--queue-in-dir", f"{source}", "q", "--once")
    assert ended.returncode == 0, ended
    assert "not valid JSON" in (source / "errors" / "host.1.2.reason").read_text()
    ended = bus.run("zwrap", "pipe", "q", "--queue-out-dir", f"{target}", "--once")
    assert ended.returncode == 0, ended
    files = [json.loads(each.read_text()) for each in (target / "incoming").iterdir()]
    assert sorted(str(file["message"]) for file in files) == ["2", "{'id': 1}"]
    [own] = [file for file in files if file["message"] == 2]
    assert own["headers"][ID_HEADER] == "own"
    assert own["headers"]["k"] == "v"


def test_it_waits_while_the_other_end_is_full(site: Site, wait_until: Wait) -> None:
    source, target = site.directory / "a", site.directory / "b"
    SpoolQueue(source).put([b'{"message": 1}'] * 30)
    options = "--queue-out-limit 5 --queue-out-wait 0.2 --queue-in-wait 0.1"
    log = site.directory / "log"
    process = site.start("bash", "-c", f"exec zwrap pipe {source} {target} {options} 2>{log}")

    def is_paused(times: int) -> bool:
        told = log.read_text() if log.exists() else ""
        return told.count("paused: 5 messages wait in OUT") == times and len(names(target)) == 5

    wait_until(lambda: is_paused(1))
    time.sleep(1)
    assert is_paused(1), "said once a change"
    for name in names(target)[:3]:
        (target / "incoming" / name).unlink()
    wait_until(lambda: is_paused(2))
    for name in names(target):
        (target / "incoming" / name).unlink()
    wait_until(lambda: is_paused(3))  # so none is on its way
    assert (held(source), held(target)) == (30 - 13, 5)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=30)
    assert (process.returncode, output) == (0, "13 message(s) moved.\n")
    assert is_paused(3)
    assert log.read_text().count("going on: ") == 2


def test_any_number_may_work_on_one_directory(site: Site) -> None:
    source, target = site.directory / "a", site.directory / "b"
    SpoolQueue(source, durable=False).put([b'{"message": %d}' % number for number in range(300)])
    command = ("zwrap", "pipe", f"{source}", f"{target}", "--once")
    pipes = [site.start(*command) for _ in range(3)]
    counts = [int(pipe.communicate(timeout=30)[0].split()[0]) for pipe in pipes]
    assert sum(counts) == 300
    files = [json.loads(each.read_text()) for each in (target / "incoming").iterdir()]
    assert sorted(file["message"] for file in files) == list(range(300))


def test_a_pipe_that_is_killed_loses_no_line_and_doubles_none(site: Site, wait_until: Wait) -> None:
    source, target = site.directory / "a", site.directory / "b"
    SpoolQueue(source, durable=False).put([b'{"message": %d}' % number for number in range(500)])
    command = ("zwrap", "pipe", f"{source}", f"{target}")
    for enough in (50, 200, 350):
        process = site.start(*command)
        wait_until(lambda: (target / "incoming").exists() and len(names(target)) > enough)  # noqa: B023
        process.kill()
        process.communicate()
    assert site.run(*command, "--once").returncode == 0
    files = [json.loads(each.read_text()) for each in (target / "incoming").iterdir()]
    assert sorted(file["message"] for file in files) == list(range(500))


def test_permissions_of_the_directories(site: Site) -> None:
    source = site.directory / "a"
    command = ("zwrap", "pipe", f"{source}", f"{site.directory / 'b'}", "--once")
    assert site.run(*command, "--queue-in-perms", "2775").returncode == 0
    for place in ("", "incoming", "pending", "tmp", "errors"):
        assert (source / place).stat().st_mode & 0o7777 == 0o2775, place
    ended = site.run(*command, "--queue-in-perms", "rwx")
    assert ended.returncode == 100
    assert "an octal mode such as 2770" in ended.stderr


@pytest.mark.parametrize(
    ("options", "status", "words"),
    [
        (["q"], 100, "once each: IN or --queue-in-dir"),
        (["q", "q"], 100, "IN and OUT are both 'q'"),
        (["a", "b", "--queue-in-dir", "c"], 100, "once each"),
        (["/proc/nowhere/a", "b"], 111, "/proc/nowhere/a/incoming cannot be made"),
    ],
)
def test_bad_ends_are_one_sentence(site: Site, options: list[str], status: int, words: str) -> None:
    ended = site.run("zwrap", "pipe", *options)
    assert ended.returncode == status
    assert words in ended.stderr


def test_a_monitor_sees_how_many_read_a_queue(bus: Site) -> None:
    transport = transport_of(bus)
    transport.subscribe("read")
    transport.send("unread", 1)
    ended = bus.run(
        "zwrap", "consumers", "read", "unread", "read=2", "--state-dir", f"{bus.directory}"
    )
    assert ended.returncode == 2
    transport.receive(0.1)
    ended = bus.run("zwrap", "consumers", "read", "--state-dir", f"{bus.directory}")
    assert ended.stdout == "OK: queue read has 1 consumers, needs 1\n", ended
    assert ended.returncode == 0
    moment, *rest = (bus.directory / "consumers-read").read_text().strip().split("|")
    assert rest == ["0", "OK", "queue read has 1 consumers, needs 1"]
    assert abs(int(moment) - time.time()) < 60
    ended = bus.run("zwrap", "consumers", "unread", "--min-threshold", "0")
    assert ended.returncode == 0
    transport.close()


def test_a_monitor_is_told_when_a_value_is_unknown(site: Site) -> None:
    ended = site.run("zwrap", "consumers", "a=many")
    assert ended.returncode == 100
    assert "QUEUE or QUEUE=N is expected" in ended.stderr
