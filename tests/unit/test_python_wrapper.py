"""Rules of wrappers written in Python: what they are given, and what becomes of what they send."""

from __future__ import annotations

import decimal
import json
import logging
from typing import Any

import pytest

from zwrap.errors import MessageError, RecipeError
from zwrap.message.content import Outgoing
from zwrap.recipe.envelope import Envelope
from zwrap.recipe.graph import Recipe
from zwrap.wrapper.heartbeat import Heartbeat, Status
from zwrap.wrapper.outboxtransport import OutboxTransport
from zwrap.wrapper.python import BaseWrapper, RecipeWrapper, StatusNotifications

NODES = {
    "1": {"queue": "here", "job_parameters": {"a": "{x}"}, "output": {"extra": 3, "success": 2}},
    "2": {"queue": "two"},
    "3": {"queue": "three", "output": 2},
}
RECIPE = Recipe({"start": [[1, []]], **NODES})


class Sent(list[Outgoing]):
    def summary(self) -> list[tuple[str, Any]]:
        return [(each.destination, each.message["payload"]) for each in self]


@pytest.fixture
def sent() -> Sent:
    return Sent()


def at(node: int, sent: Sent) -> RecipeWrapper:
    return RecipeWrapper(
        Envelope(RECIPE, node, payload={"p": 1}, environment={"ID": "guid"}, path=[9]), sent.extend
    )


class Wrapper(BaseWrapper):
    _logger_name = "site.wrapper"

    def run(self) -> bool:
        self.log.info("runs")
        return True


def test_the_step_is_there_by_the_names_of_python_workflows(sent: Sent) -> None:
    step = at(1, sent)
    assert step.recipe == RECIPE
    assert step.recipe_step["job_parameters"] == {"a": "{x}"}
    assert (step.recipe_pointer, step.recipe_path) == (1, [9])
    assert (step.payload, step.environment) == ({"p": 1}, {"ID": "guid"})


def test_named_outputs_take_their_channel_and_send_the_default_one(sent: Sent) -> None:
    step = at(1, sent)
    step.send("dropped: no default channel")
    step.send_to("extra", "a")
    step.send_to("nowhere", "dropped")
    step.set_default_channel("success")
    step.send("b")
    assert sent.summary() == [("three", "a"), ("two", "b")]


def test_an_unnamed_output_takes_send_and_the_default_channel(sent: Sent) -> None:
    step = at(3, sent)
    step.send("a")
    step.send_to("other", "dropped")
    step.set_default_channel("other")
    step.send_to("other", "b")
    assert sent.summary() == [("two", "a"), ("two", "b")]


def test_headers_delay_and_expiration_are_those_of_python_workflows(sent: Sent) -> None:
    step = at(1, sent)
    step.send_to("extra", "x", {"site": 1}, delay=2, expiration=decimal.Decimal(30), other=None)
    step.transport.send("queue", {"plain": True}, {"site": 2}, delay="3")
    step.transport.broadcast("topic", "news", expiration=None)
    first, second, third = sent
    assert first.headers == {"site": 1, "workflows-recipe": True}
    assert (first.delay_s, first.expires_s) == (2.0, 30.0)
    assert second == Outgoing("queue", {"plain": True}, {"site": 2}, delay_s=3.0)
    assert third == Outgoing("topic", "news", topic=True)
    with pytest.raises(TypeError, match=r"delay is \[1\]; a number of seconds is expected"):
        step.send_to("extra", "x", delay=[1])


def test_an_exchange_is_that_of_python_workflows(sent: Sent) -> None:
    step = at(1, sent)
    step.send_to("extra", "x", exchange="results")
    step.transport.send("queue", 1, exchange="results")
    step.transport.broadcast("topic", 1, exchange="results")
    assert [message.exchange for message in sent] == ["results", "results", ""]


def test_a_checkpoint_returns_to_the_step_and_its_recipe_is_not_started_again(sent: Sent) -> None:
    step = at(1, sent)
    step.checkpoint("half", delay=5)
    assert sent.summary() == [("here", "half")]
    assert sent[0].delay_s == 5.0
    with pytest.raises(ValueError, match="already been started"):
        step.start()


def test_parameters_filled_in_travel_on(sent: Sent) -> None:
    step = at(1, sent)
    step.apply_parameters({"x": "X"})
    assert step.recipe_step["job_parameters"] == {"a": "X"}
    step.send_to("extra", "a")
    assert sent[0].message["recipe"]["1"]["job_parameters"] == {"a": "X"}
    assert RECIPE.node(1)["job_parameters"] == {"a": "{x}"}


@pytest.mark.parametrize("recipe", [None, Recipe(RECIPE.as_dict()), RECIPE.as_dict()])
def test_parameters_filled_in_by_the_recipe_itself_travel_on(sent: Sent, recipe: object) -> None:
    """The recipe is changed in place, as with python-workflows."""
    step = at(1, sent)
    if recipe is not None:
        step.recipe = recipe
    own = step.recipe
    own.apply_parameters({"x": "X"})
    assert step.recipe is own
    assert step.recipe_step["job_parameters"] == {"a": "X"}
    step.send_to("extra", "a")
    assert sent[0].message["recipe"]["1"]["job_parameters"] == {"a": "X"}
    assert RECIPE.node(1)["job_parameters"] == {"a": "{x}"}


@pytest.mark.parametrize(
    ("recipe", "name"),
    [
        (None, "of the message"),
        (Recipe({"2": 5}, "of the message"), "of the message"),
        (Recipe({"2": 5}), "of the site's code"),
        ({"2": 5}, "of the site's code"),
    ],
)
def test_a_sentence_about_a_recipe_says_where_it_is_from(
    sent: Sent, recipe: object, name: str
) -> None:
    body = {**Envelope(RECIPE, 1).body(), "recipe": {**RECIPE.wire, "2": 5}}
    step = RecipeWrapper(Envelope.from_body(body), sent.extend)
    if recipe is not None:
        step.recipe = recipe
    with pytest.raises(RecipeError, match=f"^Recipe {name}, node 2 is a int"):
        step.recipe.node(2)


def test_what_a_wrapper_tells_goes_to_the_output_of_that_name(sent: Sent) -> None:
    channels = {
        "prepare": "starting", "update": "updates", "done": "completed", "success": "success",
        "failure": "failure", "record_result_individual_file": "result-individual-file",
        "record_result_all_files": "result-all-files",
    }  # fmt: skip
    nodes = {number: {"queue": name} for number, name in enumerate(channels.values(), 2)}
    outputs = {name: number for number, name in enumerate(channels.values(), 2)}
    recipe = Recipe({"start": [[1, []]], 1: {"output": outputs}, **nodes})
    wrapper = Wrapper()
    for method in channels:
        getattr(wrapper, method)("dropped: no recipe")
    wrapper.set_recipe_wrapper(RecipeWrapper(Envelope(recipe, 1), sent.extend))
    for method in channels:
        getattr(wrapper, method)(17)
    assert sent.summary() == [
        (name, "17" if name == "failure" else 17) for name in channels.values()
    ]


def test_a_wrapper_has_the_configuration_and_logs_with_the_recipe_id(
    sent: Sent, caplog: pytest.LogCaptureFixture
) -> None:
    wrapper = Wrapper("ignored", environment={"config": "the configuration"})
    assert wrapper.config == "the configuration"
    assert Wrapper().config is None
    wrapper.set_recipe_wrapper(at(1, sent))
    with caplog.at_level(logging.INFO):
        assert wrapper.run()
    [record] = caplog.records
    assert (record.name, record.__dict__["recipe_ID"]) == ("site.wrapper", "guid")


def test_a_change_of_the_status_is_sent_and_a_field_goes_with_the_next_heartbeat() -> None:
    heartbeat = Heartbeat("task", "program", {})
    beats: list[dict[str, Any]] = []
    status = StatusNotifications(heartbeat, lambda: beats.append(heartbeat.body()))
    status.set_static_status_field("site", {"x": 1})
    assert beats == []
    status.taskname += " (half)"
    status.set_status(Status.PROCESSING)
    status.shutdown()
    assert [beat["task"] for beat in beats] == ["task (half)", "task (half)"]
    assert [beat["status"] for beat in beats] == [1, 4]
    assert all(beat["site"] == {"x": 1} for beat in beats)


# -- what python-workflows offers besides --------------------------------------------------------


def test_what_is_set_anew_in_the_step_travels_on(sent: Sent) -> None:
    step = at(1, sent)
    step.environment = {"ID": "guid", "new": 1}
    step.environment["later"] = 2
    step.recipe_path = [7, 8]
    step.send_to("extra", "a")
    assert sent[0].message["environment"] == {"ID": "guid", "new": 1, "later": 2}
    assert sent[0].message["recipe-path"] == [7, 8, 1]
    step.recipe_pointer = 3
    step.send("b")
    step.recipe = Recipe({"start": [[1, []]], 3: {"output": 1}, 1: {"queue": "else"}})
    step.send("c")
    assert sent.summary()[1:] == [("two", "b"), ("else", "c")]
    with pytest.raises(AttributeError, match="recipe_step cannot be replaced, because"):
        step.recipe_step = {"output": 2}


class Graph:
    """A recipe of another library."""

    def __init__(self, recipe: dict[Any, Any]) -> None:
        self.recipe = recipe


OTHER: dict[Any, Any] = {"start": [(1, [])], 1: {"output": {"extra": 2}}, 2: {"queue": "else"}}


@pytest.mark.parametrize("recipe", [Graph(OTHER), OTHER, json.loads(json.dumps(OTHER))])
def test_a_recipe_of_another_library_is_taken(sent: Sent, recipe: object) -> None:
    step = at(1, sent)
    step.recipe = recipe
    step.send_to("extra", "a")
    assert sent.summary() == [("else", "a")]
    assert sent[0].message["recipe"]["start"] == [[1, []]]
    assert step.recipe == OTHER


def test_what_is_no_recipe_is_refused_where_it_is_set(sent: Sent) -> None:
    step = at(1, sent)
    before = step.recipe
    with pytest.raises(TypeError, match="A recipe is expected, or a mapping that holds one, and"):
        step.recipe = 7
    assert step.recipe is before
    assert before == RECIPE


def test_the_recipe_has_what_that_of_python_workflows_has(sent: Sent) -> None:
    step = at(1, sent)
    step.recipe = Recipe(OTHER)
    step.send_to("extra", "a")
    assert json.loads(step.recipe.serialize()) == json.loads(step.recipe.pretty())
    assert step.recipe == step.recipe.serialize()
    assert "\n" in step.recipe.pretty()
    both = step.recipe.merge(Graph(OTHER))
    assert both == step.recipe.merge(step.recipe)
    assert both.start == [(1, []), (3, [])]
    step.recipe.recipe[3] = {"queue": "added"}
    step.recipe.recipe[1]["output"]["more"] = 3
    step.send_to("more", "b")
    assert sent.summary() == [("else", "a"), ("added", "b")]
    assert sent[1].message["recipe"]["3"] == {"queue": "added"}


def test_a_message_may_be_made_by_a_function_that_gives_json_text(sent: Sent) -> None:
    step = at(1, sent)

    def mangle(body: dict[str, Any]) -> str:
        return json.dumps({**body, "payload": str(body["payload"])})

    step.send_to("extra", decimal.Decimal("1.50"), mangle_for_sending=mangle)
    step.send_to("extra", "b", mangle_for_sending=lambda body: mangle(body).encode())
    assert sent.summary() == [("three", "1.50"), ("three", "b")]
    assert sent[0].headers == {"workflows-recipe": True}
    for made, complaint in ((b"\xff", "is not valid JSON"), ({}, "It is a dict.")):
        with pytest.raises(MessageError) as refused:
            step.send_to("extra", "x", mangle_for_sending=lambda body, made=made: made)
        assert str(refused.value).startswith(
            "The message of mangle_for_sending has to be JSON text"
        )
        assert complaint in str(refused.value)


def test_text_that_is_ready_is_sent_as_the_message_that_it_holds(sent: Sent) -> None:
    transport = OutboxTransport(sent.extend)
    transport.raw_send("queue", '{"a": [1]}', {"h": 1}, delay=2)
    transport.raw_broadcast("topic", b"[1]")
    assert sent == [
        Outgoing("queue", {"a": [1]}, {"h": 1}, delay_s=2.0), Outgoing("topic", [1], topic=True),
    ]  # fmt: skip
    with pytest.raises(MessageError, match="The message of raw_send has to be JSON text"):
        transport.raw_send("queue", "plain words")


def test_the_transport_is_always_there_and_says_what_it_cannot(sent: Sent) -> None:
    transport = OutboxTransport(sent.extend)
    assert transport.connect()
    assert transport.is_connected()
    assert transport.is_reconnectable
    transport.disconnect()
    transport.send("queue", "after disconnect")
    assert len(sent) == 1
    for name in ("subscribe", "subscribe_broadcast", "subscribe_temporary", "transaction_begin"):
        assert not hasattr(transport, name)
        with pytest.raises(AttributeError, match=f"has no '{name}' under zwrap: it sends and"):
            getattr(transport, name)


@pytest.mark.parametrize("option", [{"ignore_namespace": True}, {"transaction": 3}, {"odd": 1}])
def test_an_option_that_is_not_carried_out_raises_as_that_of_a_service_does(
    option: dict[str, Any], sent: Sent
) -> None:
    step, transport = at(1, sent), OutboxTransport(sent.extend)
    [name] = option
    for call in (
        lambda: step.send_to("extra", 1, **option),
        lambda: step.checkpoint(1, **option),
        lambda: transport.send("queue", 1, **option),
        lambda: transport.raw_broadcast("topic", "1", **option),
    ):
        with pytest.raises(MessageError, match=f"do not carry out option '{name}'"):
            call()
    assert sent == []


def test_an_option_that_is_not_set_or_is_only_a_hint_is_taken(
    sent: Sent, caplog: pytest.LogCaptureFixture
) -> None:
    step = at(1, sent)
    step.send_to("extra", 1, transaction=None, persistent=False, priority=4)
    assert sent.summary() == [("three", 1)]
    assert "'priority' has no effect" in caplog.text


def test_a_status_message_of_the_wrapper_s_own_is_sent_beside_the_heartbeats(sent: Sent) -> None:
    status = StatusNotifications(
        Heartbeat("task", "program", {}),
        lambda: None,
        OutboxTransport(sent.extend).broadcast_status,
    )
    body = {"host": "h", "workflows": "3", "status": 4, "site": 1}
    status.send_status(body)
    assert sent == [Outgoing("transient.status", body, topic=True, expires_s=15.0, replaces="h")]
    with pytest.raises(ValueError, match="A status message needs status, workflows, too"):
        status.send_status({"host": "h"})
    assert status.is_alive()
    status.shutdown()
    status.join(1)
    assert not status.is_alive()
