"""Headers of a trace, which the tracing of python-workflows adds, travel on unchanged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from zwrap.configuration.site import Configuration
from zwrap.message.content import Message, Outgoing
from zwrap.recipe.envelope import Envelope
from zwrap.recipe.graph import Recipe
from zwrap.service.dispatcher import Dispatcher
from zwrap.service.loop import Loop
from zwrap.service.submitter import Submitter
from zwrap.transport.memory import MemoryTransport

from .test_submitter import taking

TRACE: dict[str, Any] = {
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "tracestate": "vendor=a,other=b",
    "baggage": "dcid=17",
}


def of(message: Message) -> dict[str, Any]:
    """Return the headers of the trace of a message."""
    return {name: value for name, value in message.headers.items() if name in TRACE}


def test_the_dispatcher_hands_a_trace_on() -> None:
    transport = MemoryTransport()
    recipe = {"start": [[1, []], [2, []]], "1": {"queue": "a"}, "2": {"queue": "b"}}
    transport.send("processing_recipe", {"custom_recipe": recipe}, TRACE)
    transport.send("processing_recipe", {"custom_recipe": recipe})
    Loop(Dispatcher(Configuration(), transport), transport, once=True).run()
    for queue in ("a", "b"):
        traced, bare = (entry.message for entry in transport.broker.queues[queue])
        assert of(traced) == TRACE
        assert of(bare) == {}


def test_the_submitter_hands_a_trace_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZWRAP_STATE", str(tmp_path / "state"))
    taking(monkeypatch, lambda job: None)
    transport = MemoryTransport()
    parameters = {"cluster": {"commands": "true"}, "workingdir": str(tmp_path / "work")}
    step = {"queue": "cluster.submission", "output": 2, "parameters": parameters}
    recipe = Recipe({"start": [[1, []]], "1": step, "2": {"queue": "told"}})
    [message] = Envelope(recipe, 1, environment={"ID": "x"}).start()
    transport.send("cluster.submission", message.message, {**message.headers, **TRACE})
    site = json.dumps(
        {"version": 1, "c": {"plugin": "clusters"}, "environments": {"default": ["c"]}}
    )
    Loop(
        Submitter(Configuration.from_string(site).activate(), transport), transport, once=True
    ).run()
    [told] = transport.broker.queues["told"]
    assert of(told.message) == TRACE


def test_a_message_with_a_trace_of_its_own_keeps_that() -> None:
    transport = MemoryTransport()
    transport.subscribe("in")
    transport.send("in", 1, TRACE)
    delivery = transport.receive(1)
    assert delivery
    own = {"traceparent": "00-1af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"}
    with transport.unit(delivery) as unit:
        unit.send(Outgoing("out", 1, own), Outgoing("out", 2))
    first, second = (entry.message for entry in transport.broker.queues["out"])
    assert of(first) == own
    assert of(second) == TRACE


def test_a_message_that_comes_again_keeps_its_trace() -> None:
    transport = MemoryTransport()
    transport.subscribe("in")
    transport.send("in", 1, TRACE)
    for _ in range(2):
        delivery = transport.receive(1)
        assert delivery
        assert of(delivery.message) == TRACE
        delivery.retry(0, counted=True)
    delivery = transport.receive(1)
    assert delivery
    delivery.dead_letter("a test")
    [letter] = transport.broker.dead_letters["in"]
    assert of(letter.message) == TRACE
