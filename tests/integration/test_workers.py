"""Functions as workers of queues: declared, run, limited in time; nothing that fails is lost."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from zwrap.errors import ConfigurationError
from zwrap.message.content import ID_HEADER
from zwrap.workers import functions as workers
from zwrap.workers.functions import Worker, worker

from .conftest import Site, transport_of

Wait = Callable[..., Any]

MODULE = """
import json, os, sys, time
from zwrap.workers.functions import SkipMessage, queue_json_publish, worker

def note(**words):
    with open("seen", "a") as file:
        file.write(json.dumps({"pid": os.getpid(), **words}) + chr(10))

@worker("words", time_limit_s=1)
def words(message):
    note(words=message)
    if message == "bad":
        raise ValueError("no such word")
    if message == "skip":
        raise SkipMessage
    if message == "slow":
        time.sleep(30)
    if message == "deaf":
        end = time.monotonic() + 30
        while time.monotonic() < end:
            try:
                time.sleep(1)
            except Exception:
                pass
    if message == "kill":
        os.kill(os.getpid(), 9)
    if message == "sys.exit":
        sys.exit(0)
    if message == "os._exit":
        os._exit(0)
    if message == "fork" and os.fork() == 0:
        note(child=os.getpid())
    if message == "pass on":
        queue_json_publish("numbers", 1)

@worker("numbers", batch=3, batch_wait_s=0.5)
def numbers(messages):
    note(numbers=messages)
    if -1 in messages:
        raise ValueError("below zero")

@worker("tests", is_test_queue=True)
def tests(message):
    note(tests=message)

@worker("off", enabled=False)
def off(message):
    note(off=message)
"""


class Queues:
    """A site with the workers."""

    def __init__(self, bus: Site) -> None:
        self.bus = bus
        self.groups: list[int] = []
        (bus.directory / "site_workers.py").write_text(MODULE)
        text = bus.config.read_text()
        for name in ("[store, files]", "[store, mq, api, chosen]"):
            text = text.replace(name, f"{name[:-1]}, work]")
        section = {"plugin": "workers", "modules": ["site_workers"], "errors": "failed"}
        bus.config.write_text(f"{text}work: {json.dumps(section)}\n")
        self.environment = {"PYTHONPATH": str(bus.directory)}

    def start(self, *options: str) -> Any:
        command = ("zwrap", "process_queue", *options)
        process = self.bus.start(*command, env=self.environment, start_new_session=True)
        self.groups.append(process.pid)
        return process

    def end(self) -> None:
        """Kill what is left, children of a supervisor included."""
        for group in self.groups:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)

    def run(self, *options: str) -> Any:
        return self.bus.run("zwrap", *options, env=self.environment)

    def send(self, queue: str, *bodies: Any) -> None:
        transport = transport_of(self.bus)
        for body in bodies:
            transport.send(queue, body)
        transport.close()

    def seen(self, queue: str) -> list[Any]:
        return [word[queue] for word in self.words() if queue in word]

    def words(self) -> list[dict[str, Any]]:
        file = self.bus.directory / "seen"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def errors(self, queue: str) -> list[dict[str, Any]]:
        file = self.bus.directory / "failed" / f"{queue}.errors"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def left(self) -> dict[str, int]:
        transport = transport_of(self.bus)
        found = {
            "waiting": transport.inspector().waiting("words"),
            **transport.inspector().dead_letters(),
        }
        transport.close()
        return found


@pytest.fixture
def queues(bus: Site) -> Iterator[Queues]:
    made = Queues(bus)
    yield made
    made.end()


@pytest.fixture
def spooled(site: Site) -> Iterator[Queues]:
    made = Queues(site)
    yield made
    made.end()


def test_a_function_gets_its_messages_and_publishes_others(
    queues: Queues, wait_until: Wait
) -> None:
    queues.send("words", "one", "pass on", "skip")
    process = queues.start("--queue_name", "words")
    wait_until(lambda: len(queues.seen("words")) == 3)
    assert queues.run("process_queue", "--queue", "numbers", "--once").returncode == 0
    assert queues.seen("numbers") == [[1]]
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0
    assert queues.left() == {"waiting": 0}
    assert not queues.errors("words")


def test_what_fails_is_tried_again_and_kept_with_its_reason(
    queues: Queues, wait_until: Wait
) -> None:
    queues.send("words", "bad", "good")
    queues.start("--queue_name", "words")
    wait_until(lambda: queues.errors("words"))
    assert queues.seen("words").count("bad") == 3
    assert queues.seen("words").count("good") == 1
    [line] = queues.errors("words")
    assert (line["message"], line["attempt"], line["queue"]) == ("bad", 3, "words")
    assert "ValueError: no such word" in line["reason"]
    wait_until(lambda: queues.left() == {"waiting": 0, "words": 1})


def test_a_batch_is_what_waits_and_its_bad_message_goes_alone(
    queues: Queues, wait_until: Wait
) -> None:
    queues.send("numbers", 1, 2, 3, 4)
    queues.start("--queue_name", "numbers")
    wait_until(lambda: len(queues.seen("numbers")) == 2)
    assert queues.seen("numbers") == [[1, 2, 3], [4]], (
        "the rest after its time, not when it is full"
    )
    queues.send("numbers", 5, -1, 6)
    wait_until(lambda: queues.errors("numbers"))
    later = queues.seen("numbers")[2:]
    assert later.count([5]) == later.count([6]) == 1
    assert [each["message"] for each in queues.errors("numbers")] == [-1]


def test_a_call_that_takes_too_long_is_interrupted(spooled: Queues, wait_until: Wait) -> None:
    spooled.send("words", "slow", "next")
    spooled.start("--queue_name", "words")
    wait_until(lambda: spooled.errors("words"))
    assert (
        "TimeLimitError: The worker words took longer than its limit of 1 s"
        in (spooled.errors("words")[0]["reason"])
    )
    assert "next" in spooled.seen("words")
    assert len({word["pid"] for word in spooled.words()}) == 1, "in the same process"


def test_a_call_that_does_not_listen_ends_its_process_and_all_starts_it_again(
    spooled: Queues, wait_until: Wait
) -> None:
    spooled.send("words", "deaf", "next")
    process = spooled.start("--all")
    wait_until(lambda: "next" in spooled.seen("words"), seconds=60)
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=20)
    assert "The worker words goes on 5 s after its limit of 1 s; this process ends." in told
    assert "site_workers.py" in told, "it says where it was"
    assert "ended with status 111" in told


def test_a_message_that_kills_its_worker_ends_as_a_dead_letter(
    queues: Queues, wait_until: Wait
) -> None:
    queues.send("words", "kill", "next")
    process = queues.start("--all")
    wait_until(lambda: queues.errors("words"), seconds=60)
    assert queues.seen("words").count("kill") == 3
    assert "handed out 3 times and never finished" in queues.errors("words")[0]["reason"]
    wait_until(lambda: "next" in queues.seen("words"))
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)
    assert queues.left() == {"waiting": 0, "words": 1}, "nothing else is put aside with it"


def test_an_exit_in_a_function_is_a_failure_of_its_message(
    spooled: Queues, wait_until: Wait
) -> None:
    spooled.send("words", "sys.exit", "good")
    spooled.start("--queue_name", "words")
    wait_until(lambda: spooled.errors("words"))
    [line] = spooled.errors("words")
    assert line["reason"].startswith("The message was tried 3 times. The handler raised SystemExit")
    assert len({word["pid"] for word in spooled.words()}) == 1, "in the same process"


def test_a_worker_whose_process_ends_is_replaced_and_the_log_says_why(
    spooled: Queues, wait_until: Wait
) -> None:
    spooled.send("words", "os._exit", "next")
    process = spooled.start("--all")
    wait_until(lambda: spooled.errors("words"), seconds=60)
    wait_until(lambda: "next" in spooled.seen("words"))
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "--queue_name words" in told
    assert "the service ended with status 0, and was not asked to" in told


def test_a_function_that_forks_and_returns_in_the_child_leaves_no_second_worker(
    spooled: Queues, wait_until: Wait
) -> None:
    spooled.send("words", "fork", "next")
    process = spooled.start("--queue_name", "words")
    wait_until(lambda: "next" in spooled.seen("words"))
    wait_until(lambda: any("child" in word for word in spooled.words()))
    [child] = [word["child"] for word in spooled.words() if "child" in word]
    status = Path(f"/proc/{child}/stat")
    wait_until(lambda: not status.exists() or status.read_text().split()[2] == "Z")
    assert spooled.left() == {"waiting": 0}
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0


def test_all_leaves_out_what_is_off_or_for_tests(spooled: Queues, wait_until: Wait) -> None:
    for queue in ("words", "numbers", "tests", "off"):
        spooled.send(queue, 7)
    listed = spooled.run("process_queue", "--list").stdout.splitlines()
    assert listed[0] == "words: site_workers.words"
    assert listed[2:] == [
        "tests: site_workers.tests  (only when it is named)",
        "off: site_workers.off  (only when it is named)",
    ]
    assert spooled.run("process_queue", "--all", "--once").returncode == 0
    assert [spooled.seen(queue) for queue in ("words", "numbers", "tests", "off")] == [
        [7], [[7]], [], [],
    ]  # fmt: skip
    assert len({word["pid"] for word in spooled.words()}) == 2, "a process each"
    assert (
        spooled.run("process_queue", "--multi_threaded", "tests", "off", "--once").returncode == 0
    )
    assert (spooled.seen("tests"), spooled.seen("off")) == ([7], [7])
    assert len({word["pid"] for word in spooled.words()}) == 3, "threads of one"


def test_threads_end_together(spooled: Queues, wait_until: Wait) -> None:
    process = spooled.start("--multi_threaded", "words", "numbers")
    spooled.send("words", "one")
    spooled.send("numbers", 1)
    wait_until(lambda: spooled.seen("words") and spooled.seen("numbers"))
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0


def test_a_recipe_message_is_not_swallowed(spooled: Queues, wait_until: Wait) -> None:
    transport = transport_of(spooled.bus)
    transport.send("words", {"recipe": {}}, {"workflows-recipe": True})
    transport.close()
    spooled.run("process_queue", "--queue", "words", "--once")
    assert "takes plain messages" in spooled.errors("words")[0]["reason"]


def test_purge_of_all_workers(spooled: Queues) -> None:
    spooled.send("words", "a", "b")
    spooled.send("numbers", 1)
    spooled.send("somebody.elses", 1)
    assert spooled.run("purge", "--all", "--yes").returncode == 0
    transport = transport_of(spooled.bus)
    found = transport.inspector().queues()
    transport.close()
    assert {name: count for name, count in found.items() if count} == {"somebody.elses": 1}
    for options in ([], ["words", "--all"]):
        ended = spooled.run("purge", *options)
        assert (ended.returncode, "Name a queue to purge" in ended.stderr) == (100, True)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--queue", "wrods"], "Did you mean 'words'?"),
        (["-m", "no_such_module", "--all"], "Module 'no_such_module' of workers cannot be"),
        (["-m", "json", "--all"], "No worker is in json"),
    ],
)
def test_what_is_wrong_is_one_sentence(spooled: Queues, options: list[str], words: str) -> None:
    ended = spooled.run("process_queue", *options)
    assert ended.returncode == 100
    assert words in ended.stderr


def test_without_workers_it_says_where_they_are_named(site: Site) -> None:
    ended = site.run("zwrap", "process_queue", "--all")
    assert ended.returncode == 100
    assert "in plugin 'workers' of the site configuration" in ended.stderr


# -- declaring ---------------------------------------------------------------------------------


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> dict[str, Worker]:
    known: dict[str, Worker] = {}
    monkeypatch.setattr(workers, "_workers", known)
    return known


def test_a_worker_without_a_queue_is_an_error(registered: dict[str, Worker]) -> None:
    with pytest.raises(ConfigurationError, match='@worker\\("thumbnails"\\), and not @worker'):
        worker(lambda message: None)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="needs the name"):
        worker("")
    with pytest.raises(ConfigurationError, match="must be above 0"):
        worker("q", batch=0)
    assert not registered


def test_two_workers_of_one_queue_are_an_error(registered: dict[str, Worker]) -> None:
    @worker("q")
    def one(message: Any) -> None:
        """One."""

    with pytest.raises(ConfigurationError, match=r"'q' has two workers: .*one and .*two"):

        @worker("q")
        def two(message: Any) -> None:
            """Two."""

    assert registered["q"].function is one
    assert one.__doc__ == "One.", "the function stays what it is"


def test_a_message_that_was_sent_has_an_identity(site: Site, monkeypatch: Any) -> None:
    monkeypatch.setenv("ZOCALO_CONFIG", str(site.config))
    monkeypatch.setattr(workers, "_connection", [])
    began = time.time()
    workers.queue_json_publish("q", {"a": 1})
    transport = transport_of(site)
    transport.subscribe("q")
    delivery = transport.receive(5)
    assert delivery
    assert delivery.message.body == {"a": 1}
    assert delivery.message.headers[ID_HEADER] == delivery.message.id
    assert (delivery.sent_at or 0) >= began - 1
    transport.close()
