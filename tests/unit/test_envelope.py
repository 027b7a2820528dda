"""Rules of recipe messages."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from zwrap.errors import MessageError
from zwrap.message.content import Outgoing
from zwrap.recipe.envelope import Envelope
from zwrap.recipe.graph import Recipe

RECIPE = Recipe(
    {
        "start": [[1, {"p": 0}], [2, "second"]],
        "error": 6,
        "1": {"queue": "one", "output": {"a": 2, "b": [2, 3], "nested": {"c": 3, "d": 4}}},
        "2": {"queue": "two", "topic": "both", "output": [3, 4], "error": 5},
        "3": {"queue": "three", "transport-delay": 7},
        "4": {"service": "nowhere"},
        "5": {"queue": "own errors"},
        "6": {"queue": "all errors"},
    }
)


def at(node: int, **values: Any) -> Envelope:
    return Envelope(RECIPE, node, environment={"ID": "guid"}, **values)


def queues(messages: list[Outgoing]) -> list[str]:
    return [message.destination for message in messages]


def test_a_message_has_the_five_keys_and_the_header() -> None:
    [message] = at(1, path=[9]).send("a", {"result": 1})[:1]
    assert message.headers == {"workflows-recipe": True}
    assert message.message == {
        "environment": {"ID": "guid"},
        "payload": {"result": 1},
        "recipe": RECIPE.for_wire(),
        "recipe-path": [9, 1],
        "recipe-pointer": 2,
    }
    assert all(isinstance(key, str) for key in message.message["recipe"])


def test_starting_sends_to_each_first_node_with_its_payload() -> None:
    messages = at(1).start()
    assert queues(messages) == ["one", "two", "both"]
    assert [message.message["payload"] for message in messages] == [{"p": 0}, "second", "second"]
    assert all(message.message["recipe-path"] == [] for message in messages)


def test_a_node_with_queue_and_topic_gets_two_messages() -> None:
    assert [(m.destination, m.topic) for m in at(1).send("a", 1)] == [
        ("two", False),
        ("both", True),
    ]


def test_named_outputs_lead_to_their_nodes_only() -> None:
    assert queues(at(1).send("b", 1)) == ["two", "both", "three"]
    assert queues(at(1).send("nested", 1)) == ["three"]


def test_an_unnamed_output_takes_the_default_channel_only() -> None:
    assert queues(at(2).send("job_submitted", 1, default=True)) == ["three"]
    assert queues(at(2).send("success", 1)) == []


def test_an_unconnected_output_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    envelope = at(1)
    with caplog.at_level(logging.INFO):
        assert envelope.send("success", 1) == envelope.send("success", 2) == []
    assert [record.getMessage() for record in caplog.records] == [
        "Output 'success' of node 1 is not connected"
    ]


def test_errors_go_to_the_node_s_own_error_nodes_else_to_the_recipe_s() -> None:
    assert queues(at(2).send_error({"error": "x"})) == ["own errors"]
    assert queues(at(1).send_error({"error": "x"})) == ["all errors"]


def test_a_null_error_leaves_it_to_the_recipe_and_an_empty_one_to_nobody() -> None:
    nodes = {"1": {"queue": "q", "error": None}, "2": {"queue": "q", "error": []}}
    recipe = Recipe({"start": [[1, 0], [2, 0]], "error": 3, **nodes, "3": {"queue": "all"}})
    assert queues(Envelope(recipe, 1).send_error("x")) == ["all"]
    assert queues(Envelope(recipe, 2).send_error("x")) == []


def test_a_delay_of_the_node_is_the_delay_of_the_message() -> None:
    assert at(1).send("nested", 1)[0].delay_s == 7


def test_a_node_without_delay_delays_no_message() -> None:
    for node in ({}, {"transport-delay": None}, {"transport-delay": 0}):
        recipe = Recipe({"start": [[1, 0]], "1": {"queue": "q", **node}})
        [message] = Envelope(recipe, 1).start()
        assert message.delay_s == 0.0
        assert message == Outgoing("q", message.message, {"workflows-recipe": True})


@pytest.mark.parametrize("delay", ["soon", 10**400, -(10**400), 1e308, float("inf"), float("nan")])
def test_a_delay_that_is_no_number_of_seconds_is_refused(delay: object) -> None:
    recipe = Recipe({"start": [[1, 0]], "1": {"queue": "q", "transport-delay": delay}})
    with pytest.raises(MessageError, match=r"Node 1, key 'transport-delay' is .*; a number of"):
        Envelope(recipe, 1).start()


def test_a_checkpoint_returns_to_the_same_node_without_a_longer_path() -> None:
    [message] = at(3, path=[9]).checkpoint("again")
    assert message.message["recipe-pointer"] == 3
    assert message.message["recipe-path"] == [9]
    assert message.delay_s == 0, "the node's own delay was for the first time"
    assert at(3).checkpoint("again", delay_s=30)[0].delay_s == 30


def test_opening_what_was_sent_gives_the_same() -> None:
    body = {**at(1).send("b", [1])[-1].message, "foreign": {"kept": True}}
    opened = Envelope.from_body(body)
    assert (opened.pointer, opened.path, opened.payload) == (3, [1], [1])
    assert opened.recipe_id == "guid"
    assert opened.body() == body


def test_missing_environment_and_path_are_empty_and_a_text_pointer_is_taken() -> None:
    opened = Envelope.from_body({"recipe": RECIPE.for_wire(), "recipe-pointer": "1"})
    assert (opened.environment, opened.path, opened.pointer) == ({}, [], 1)
    assert opened.recipe_id is None


def test_job_parameters_must_be_an_object_and_a_task_may_be_missing() -> None:
    nodes = {
        "1": {"job_parameters": [1], "wrapper": "text"},
        "2": {},
        "3": {"job_parameters": {"a": 1}, "wrapper": {"task_information": "task"}},
    }
    recipe = Recipe({"start": [[1, 0], [2, 0], [3, 0]], **nodes})
    assert Envelope(recipe, 3).job_parameters == {"a": 1}
    assert Envelope(recipe, 3).task == "task"
    with pytest.raises(MessageError, match="Node 1, key 'job_parameters' holds a list"):
        _ = Envelope(recipe, 1).job_parameters
    assert Envelope(recipe, 2).job_parameters == {}
    assert Envelope(recipe, 1).task is Envelope(recipe, 2).task is None


def test_parameters_of_a_service_must_be_an_object() -> None:
    nodes = {"1": {"parameters": {"a": 1}}, "2": {}, "3": {"parameters": "text"}}
    recipe = Recipe({"start": [[1, 0], [2, 0], [3, 0]], **nodes})
    assert Envelope(recipe, 1).parameters == {"a": 1}
    assert Envelope(recipe, 2).parameters == {}
    with pytest.raises(MessageError, match="Node 3, key 'parameters' holds a str; an object"):
        _ = Envelope(recipe, 3).parameters


@pytest.mark.parametrize("nodes", [{}, {"2": ["list"]}])
def test_an_output_to_what_is_no_node_is_refused(nodes: dict[str, Any]) -> None:
    recipe = Recipe({"start": [[1, 0]], "1": {"queue": "q", "output": 2}, **nodes})
    with pytest.raises(MessageError, match="Node 1 leads to node 2, which does not exist"):
        Envelope(recipe, 1).send("", "x", default=True)


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (None, "must be a JSON object, not NoneType"),
        ([], "must be a JSON object, not list"),
        ({}, "no object under key 'recipe'"),
        ({"recipe": {"1": {}}}, "no node number under key 'recipe-pointer'"),
        ({"recipe": {"1": {}}, "recipe-pointer": 2}, "names node 2, which does not exist"),
        ({"recipe": {"1": {}}, "recipe-pointer": "start"}, "no node number"),
        ({"recipe": {"1": []}, "recipe-pointer": 1}, "names node 1, which does not exist"),
        ({"recipe": {"1": {}}, "recipe-pointer": 1, "environment": "x"}, "must be an object"),
        ({"recipe": {"1": {}}, "recipe-pointer": 1, "recipe-path": 7}, "must be a list"),
        (
            {"recipe": {"1": {}, "2": {}}, "recipe-pointer": 1, "recipe-path": [1, 2] * 101},
            "it has passed 202 nodes, and there are 2 .section limits, key 'rounds': 100.",
        ),
    ],
)
def test_a_malformed_message_is_refused_with_what_it_lacks(body: object, complaint: str) -> None:
    with pytest.raises(MessageError, match=complaint):
        Envelope.from_body(body)


def test_an_exchange_goes_with_the_message_to_the_queue_only() -> None:
    """The name of the queue is the routing key, as in python-workflows 3 and later."""
    recipe = Recipe(
        {
            "start": [[1, 0]],
            "1": {"queue": "xrc.i03", "topic": "t", "exchange": "results", "output": [2, 3]},
            "2": {"queue": "plain"},
            "3": {"queue": "late", "exchange": "results", "transport-delay": 5},
        }
    )
    first = Envelope(recipe, 1)
    assert [(m.destination, m.topic, m.exchange) for m in first.delivered()] == [
        ("xrc.i03", False, "results"),
        ("t", True, ""),
    ]
    assert [(m.destination, m.exchange, m.delay_s) for m in first.send("", 0, default=True)] == [
        ("plain", "", 0.0),
        ("late", "results", 5.0),
    ]


@pytest.mark.parametrize("name", ["zwrap.delay.1s", "command", "dlq.x"])
def test_an_exchange_of_zwrap_s_own_is_no_target(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    recipe = Recipe({"start": [[1, 0]], "1": {"queue": "q", "exchange": name}})
    assert Envelope(recipe, 1).delivered() == []
    assert "key 'exchange' is" in caplog.text
