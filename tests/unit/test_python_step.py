"""A step run by a Python wrapper: its methods are called, and zwrap's messages are sent once."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Callable
from typing import Any

import pytest

from zwrap.configuration.site import Configuration
from zwrap.errors import PERMANENT, MessageError
from zwrap.message.content import Outgoing
from zwrap.recipe.envelope import Envelope
from zwrap.recipe.graph import Recipe
from zwrap.scheduler import Meaning
from zwrap.wrapper import pythonstep
from zwrap.wrapper.ended import Ended
from zwrap.wrapper.heartbeat import Heartbeat
from zwrap.wrapper.python import BaseWrapper
from zwrap.wrapper.pythonstep import PythonStep
from zwrap.wrapper.stopping import Stopping

CHANNELS = ("starting", "updates", "success", "failure", "completed", "metrics")


class Box:
    """An outbox that keeps what is posted."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, Any]] = []
        self.beats = 0

    def post(self, messages: list[Outgoing]) -> None:
        self.sent += [(each.destination, each.message["payload"]) for each in messages]

    def beat(self) -> None:
        self.beats += 1


class Told(BaseWrapper):
    """A wrapper as the base class of a facility: it does something of its own at each stage."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.calls: list[tuple[str, object]] = []
        calls.append(self.calls)

    def note(self, name: str, payload: object) -> None:
        self.calls.append((name, payload))
        assert self.recwrap
        self.recwrap.send_to("metrics", name)

    def prepare(self, payload: object = "") -> None:
        super().prepare(payload)
        assert self.status_thread
        self.status_thread.set_static_status_field("facility", "1.2")
        self.note("prepare", payload)

    def update(self, payload: object = "") -> None:
        self.note("update", payload)
        super().update(payload)

    def success(self, payload: object = "") -> None:
        self.note("success", payload)
        super().success(payload)

    def failure(self, payload: object = "") -> None:
        self.note("failure", payload)
        super().failure(payload)

    def done(self, payload: object = "") -> None:
        super().done(payload)
        self.note("done", payload)

    def run(self) -> bool:
        self.update("half")
        return True


calls: list[list[tuple[str, object]]] = []
"""Calls of each object that was made, the last one last."""


@pytest.fixture(autouse=True)
def no_children(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the step from ending children of the tests."""
    monkeypatch.setattr(pythonstep, "become_subreaper", lambda: None)
    monkeypatch.setattr(pythonstep, "end_leftovers", lambda: None)


class Tried:
    """The run of a class, and what came of it."""

    def __init__(self, kind: Callable[..., BaseWrapper]) -> None:
        outputs = {name: number for number, name in enumerate(CHANNELS, 2)}
        nodes = {number: {"queue": name} for number, name in enumerate(CHANNELS, 2)}
        recipe = Recipe({"start": [[1, []]], 1: {"queue": "q", "output": outputs}, **nodes})
        self.box = Box()
        self.heartbeat = Heartbeat("t", "p", {})
        self.stopping = Stopping(None, lambda: None)
        envelope = Envelope(recipe, 1, environment={"ID": "guid"})
        box: Any = self.box
        self.step = PythonStep(kind, envelope, Configuration(), self.heartbeat, box, self.stopping)

    def run(self) -> Ended:
        return self.step.run()

    @property
    def names(self) -> list[str]:
        return [name for name, _ in calls[-1]]

    def stop(self) -> None:
        self.stopping.signalled(signal.SIGTERM, Meaning.STOP)


def test_the_methods_are_called_and_send_what_zwrap_sends_not_again() -> None:
    tried = Tried(Told)
    assert tried.run() == Ended(returncode=0)
    assert calls[-1] == [
        ("prepare", "Starting processing"), ("update", "half"),
        ("success", "Finished processing"), ("done", "Finished processing"),
    ]  # fmt: skip
    assert tried.box.sent == [
        ("metrics", "prepare"), ("metrics", "update"), ("updates", "half"),
        ("metrics", "success"), ("metrics", "done"),
    ]  # fmt: skip
    assert tried.heartbeat.body()["facility"] == "1.2"


def test_a_wrapper_that_gives_false_is_told_of_its_failure() -> None:
    class Fails(Told):
        def run(self) -> bool:
            return False

    tried = Tried(Fails)
    assert tried.run() == Ended(failures=["Processing failed"], returncode=1)
    assert calls[-1][1:] == [("failure", "Processing failed"), ("done", "Finished processing")]
    assert {name for name, _ in tried.box.sent} == {"metrics"}


@pytest.mark.parametrize(
    ("error", "reason", "status"),
    [
        (KeyError("beamline"), "'beamline'", 100),
        (ValueError("no such beamline"), "no such beamline", 100),
        (AssertionError(), "AssertionError", 100),
        (MessageError("Key 'x' is wrong."), "Key 'x' is wrong.", 100),
    ],
)
def test_an_exception_is_a_failure_with_its_text_as_upstream(
    error: Exception, reason: str, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    class Raises(Told):
        def run(self) -> bool:
            raise error

    tried = Tried(Raises)
    assert tried.run() == Ended(failures=[reason], returncode=status)
    assert calls[-1][1:] == [("failure", error), ("done", "Finished processing")]
    [record] = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert record.exc_info or str(error) in record.getMessage()


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        ("no data", "no data"),
        (3, "The wrapper called sys.exit(3)."),
        (None, "The wrapper called sys.exit(None)."),
    ],
)
def test_an_exit_is_a_failure_with_its_text(status: str | int | None, reason: str) -> None:
    class Exits(Told):
        def run(self) -> bool:
            sys.exit(status)

        def done(self, payload: object = "") -> None:
            super().done(payload)
            sys.exit("at the end")

    assert Tried(Exits).run() == Ended(failures=[reason], returncode=PERMANENT)
    assert [name for name, _ in calls[-1]] == ["prepare", "failure", "done"]


def test_the_text_that_a_wrapper_gives_to_its_failure_is_that_of_the_step() -> None:
    class Explains(Told):
        def failure(self, payload: object = "") -> None:
            super().failure(f"xia2 {payload}")

        def run(self) -> bool:
            raise ValueError("found no spots")

    assert Tried(Explains).run().failures == ["xia2 found no spots"]


def test_another_text_of_a_message_that_zwrap_sends_is_not_lost_silently(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Words(Told):
        def success(self, payload: object = "") -> None:
            super().success({"rmerge": 0.1})

    tried = Tried(Words)
    assert tried.run() == Ended(returncode=0)
    [line] = [each.getMessage() for each in caplog.records if each.levelno == logging.WARNING]
    assert line == (
        "Method success of the wrapper sends {'rmerge': 0.1} on output 'success', which is not "
        "sent: zwrap sends 'Finished processing' there"
    )


def test_what_run_itself_sends_is_sent() -> None:
    class Sends(Told):
        def run(self) -> bool:
            assert self.recwrap
            self.recwrap.send_to("success", "early")
            return True

    tried = Tried(Sends)
    tried.run()
    assert ("success", "early") in tried.box.sent


@pytest.mark.parametrize(
    ("broken", "failures", "names"),
    [
        ("prepare", ["broken"], ["prepare", "failure", "done"]),
        ("success", ["broken"], ["prepare", "update", "success", "failure", "done"]),
        ("done", [], ["prepare", "update", "success", "done"]),
    ],
)
def test_a_method_that_fails_fails_the_step_while_its_end_is_open(
    broken: str, failures: list[str], names: list[str]
) -> None:
    class Broken(Told):
        def note(self, name: str, payload: object) -> None:
            super().note(name, payload)
            if name == broken:
                raise OSError("broken")

    tried = Tried(Broken)
    assert tried.run().failures == failures
    assert tried.names == names


def test_a_failure_that_cannot_be_told_is_a_failure_and_is_done(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Broken(Told):
        def failure(self, payload: object = "") -> None:
            raise OSError("no network")

        def run(self) -> bool:
            return False

    tried = Tried(Broken)
    assert tried.run().failures == ["Processing failed"]
    assert tried.names == ["prepare", "done"]
    assert "Method failure of the wrapper failed" in caplog.text


def test_a_stopped_step_calls_no_further_method() -> None:
    class Stopped(Told):
        def run(self) -> bool:
            tried.stop()
            return True

    tried = Tried(Stopped)
    assert tried.run() == Ended(failures=["The step was stopped by SIGTERM."], returncode=143)
    assert tried.names == ["prepare"]


def test_a_stop_while_the_end_is_told_does_not_change_the_end() -> None:
    class Slow(Told):
        def done(self, payload: object = "") -> None:
            self.note("done", payload)
            tried.stop()
            raise AssertionError("never reached")

    tried = Tried(Slow)
    assert tried.run() == Ended(returncode=0)
    assert tried.names == ["prepare", "update", "success", "done"]


def test_a_class_without_these_methods_runs() -> None:
    class Bare:
        status_thread: object = None

        def __init__(self, environment: object) -> None: ...

        def set_recipe_wrapper(self, recwrap: object) -> None: ...

        def run(self) -> bool:
            return True

    kind: Any = Bare
    assert Tried(kind).run() == Ended(returncode=0)
