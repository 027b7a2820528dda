"""Rules of the Dispatcher and the service loop, on the in-memory transport."""

from __future__ import annotations

import contextlib
import json
import re
import sys
import textwrap
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from zwrap.configuration.site import Configuration
from zwrap.errors import (
    MessageError,
    OutageError,
    PermanentError,
    QueueFullError,
    TemporaryError,
    TransportError,
    UnreachableError,
)
from zwrap.message.content import RECIPE_HEADER, Message, Outgoing, Status
from zwrap.recipe.envelope import Envelope
from zwrap.recipe.graph import Recipe
from zwrap.service import contract, loop, settling
from zwrap.service.contract import Service, Work
from zwrap.service.dispatcher import Dispatcher
from zwrap.service.faults import as_failure
from zwrap.service.liveness import Liveness
from zwrap.service.loop import Loop, handle_delivery
from zwrap.transport.contract import Delivery, Transport
from zwrap.transport.memory import MemoryBroker, MemoryTransport
from zwrap.transport.spool.transport import SpoolTransport

from .clock import ManualClock
from .noting import Noting

GOOD = {"start": [[1, "{x}"]], "1": {"queue": "first", "output": 2}, "2": {"queue": "second"}}
OTHER = {"start": [[1, []]], "1": {"queue": "other"}}


class Site:
    """A recipe directory, a Dispatcher, and what lands where."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        (directory / "good.json").write_text(json.dumps(GOOD))
        (directory / "other.json").write_text(json.dumps(OTHER))
        (directory / "broken.json").write_text("{")
        self.broker = MemoryBroker()
        self.transport = MemoryTransport(self.broker)
        self.service: Service | None = None
        self.settings: dict[str, Any] = {"zocalo.recipe_directory": str(directory)}

    def dispatch(self, body: Any, headers: dict[str, Any] | None = None) -> None:
        if self.service is None:
            storage = json.dumps({"plugin": "storage", **self.settings})
            text = f"version: 1\nstore: {storage}\nenvironments: {{default: [store]}}"
            configuration = Configuration.from_string(text).activate()
            self.service = Dispatcher(configuration, self.transport)
            self.transport.subscribe(self.service.queue, 10)
        self.transport.send("processing_recipe", body, headers)
        delivery = self.transport.receive(1)
        assert delivery
        handle_delivery(self.service, delivery)
        assert delivery.settled

    def messages(self, queue: str) -> list[Message]:
        return [entry.message for entry in self.broker.queues.get(queue, [])]

    def dead(self) -> list[str]:
        return [letter.reason for letter in self.broker.dead_letters.get("processing_recipe", [])]


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_a_named_recipe_is_filled_in_and_started(site: Site) -> None:
    site.dispatch({"recipes": ["good"], "parameters": {"x": "value", "n": 1}})
    [message] = site.messages("first")
    body = message.body
    assert message.headers[RECIPE_HEADER] is True
    assert body["payload"] == "value"
    assert body["recipe-path"] == []
    assert body["recipe-pointer"] == 1
    assert body["recipe"]["start"] == [[1, "value"]]
    assert body["recipe"]["1"]["output"] == [2]
    assert len(body["environment"]["ID"]) == 36
    assert site.dead() == []


def test_what_no_parameter_fills_in_is_one_line_of_the_log(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    site.dispatch({"recipes": ["good"], "parameters": {"x": "value", "guid": "G"}})
    assert "no parameter" not in caplog.text
    odd = {"start": [[1, "{y}"]], "1": {"queue": "q", "a": "{$REPLACE:z[k]}"}}
    site.dispatch({"custom_recipe": odd, "recipes": ["good"], "parameters": {"guid": "H"}})
    [line] = [record for record in caplog.records if record.levelname == "WARNING"]
    assert re.fullmatch(
        r"Recipe custom_recipe\+.*/good\.json of request H: no parameter gives a value to .*{y}.*",
        line.getMessage(),
    )
    for placeholder in ("{x}", "{$REPLACE:z[k]}"):
        assert placeholder in line.getMessage()
    [message] = site.messages("q")
    assert message.body["recipe"]["1"]["a"] is None


def test_a_key_that_is_there_twice_is_told_once_and_the_last_value_holds(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    """Recipes in use have such keys, which python-zocalo takes; `zwrap recipe check` does not."""
    text = '{"start": [[1, 0]], "1": {"queue": "a"}, "1": {"queue": "b"}}'
    (site.directory / "twice.json").write_text(text)
    for _ in range(2):
        site.dispatch({"recipes": ["twice"]})
    assert (len(site.messages("a")), len(site.messages("b"))) == (0, 2)
    [line] = [record for record in caplog.records if record.levelname == "WARNING"]
    assert "twice.json: key '1' is there more than once" in line.getMessage()


def test_a_recipe_whose_first_node_has_no_queue_sends_no_message(site: Site) -> None:
    recipe = {"start": [[1, 0]], "1": {"output": 2}, "2": {"queue": "second"}}
    site.dispatch({"custom_recipe": recipe})
    assert (any(site.broker.queues.values()), site.dead()) == (False, [])


def test_commands_are_quoted_when_the_site_says_so(site: Site) -> None:
    node = {"queue": "first", "parameters": {"cluster": {"commands": "run {x}"}}}
    request = {"custom_recipe": {"start": [[1, 0]], "1": node}, "parameters": {"x": "a b"}}
    site.settings["zwrap.quote_commands"] = True
    site.dispatch(request)
    site.service = None
    site.settings["zwrap.quote_commands"] = False
    site.dispatch(request)
    texts = [
        message.body["recipe"]["1"]["parameters"]["cluster"]["commands"]
        for message in site.messages("first")
    ]
    assert texts == ["run 'a b'", "run a b"]


def test_guid_is_the_recipe_id_and_a_parameter(site: Site) -> None:
    recipe = {"start": [[1, "{guid}"]], "1": {"queue": "first"}}
    site.dispatch({"custom_recipe": recipe, "parameters": {"guid": "mine"}})
    [message] = site.messages("first")
    assert message.body["environment"] == {"ID": "mine"}
    assert message.body["payload"] == "mine"
    site.dispatch({"custom_recipe": recipe})
    assert (
        site.messages("first")[1].body["payload"]
        == site.messages("first")[1].body["environment"]["ID"]
    )


def test_several_recipes_are_merged_custom_first(site: Site) -> None:
    site.dispatch({"recipes": ["good", "other"], "custom_recipe": OTHER})
    assert len(site.messages("other")) == 2
    assert len(site.messages("first")) == 1
    assert set(site.messages("first")[0].body["recipe"]) == {"start", "1", "2", "3", "4"}


def test_a_request_inside_a_recipe_is_taken_from_its_payload(site: Site) -> None:
    outer = Envelope(Recipe(OTHER), 1, payload={"recipes": ["good"]}, environment={"ID": "outer"})
    site.dispatch(outer.body(), {RECIPE_HEADER: "True"})
    assert len(site.messages("first")) == 1


def test_handling_the_same_request_again_starts_the_same_recipe(site: Site) -> None:
    for _ in range(2):
        site.dispatch({"recipes": ["good"]}, {"zwrap-id": "one-and-the-same"})
    first, second = site.messages("first")
    assert first.id == second.id
    assert first.body == second.body


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (None, "an object with 'recipes' and 'parameters'; this is null"),
        ("text", "this is str"),
        ([1], "this is list"),
        ({}, "The request names no recipe"),
        ({"recipes": []}, "The request names no recipe"),
        ({"recipes": ["good"], "parameters": []}, None),
        ({"recipes": ["good"], "parameters": [1]}, "Key 'parameters' of the request holds a list"),
        ({"recipes": ["god"]}, "Unknown recipe 'god' .*Did you mean 'good'"),
        ({"recipes": "good"}, "Key 'recipes' holds 'good'; a list of recipe names"),
        ({"recipes": ["../good"]}, "'../good' is not a valid recipe name"),
        ({"recipes": ["/etc/passwd"]}, "is not a valid recipe name"),
        ({"recipes": ["a" * 300]}, "'aaa.*is the name of no recipe.*longer than 200 bytes"),
        ({"recipes": [7]}, "7 is not a valid recipe name"),
        ({"recipes": ["broken"]}, r"broken\.json is not valid JSON"),
        ({"custom_recipe": [1]}, "Key 'custom_recipe' holds a list"),
        ({"custom_recipe": {"1": {}}}, "Invalid recipe custom_recipe: key 'start'"),
        (
            {"custom_recipe": {"1": {}}, "recipes": ["good"]},
            "Invalid recipe custom_recipe: key 'start'",
        ),
        (
            {"custom_recipe": {"start": [[1, 0]], "1": {"output": "{x}"}}},
            "node 1, key 'output': '{x}' is not a node number",
        ),
    ],
)
def test_a_bad_request_is_a_dead_letter_with_its_reason_and_the_service_lives(
    site: Site, body: Any, reason: str | None
) -> None:
    site.dispatch(body)
    if reason is None:
        assert site.dead() == []
    else:
        [found] = site.dead()
        assert __import__("re").search(reason, found), found
        assert "message " in found
        assert "queue processing_recipe" in found
    before = len(site.messages("other"))
    site.dispatch({"recipes": ["other"]})
    assert len(site.messages("other")) == before + 1


def test_without_a_recipe_directory_a_name_is_refused(site: Site) -> None:
    site.settings = {}
    site.dispatch({"recipes": ["good"]})
    assert "set 'zocalo.recipe_directory'" in site.dead()[0]


def test_the_logbook_holds_request_and_recipe(site: Site, tmp_path: Path) -> None:
    site.settings["zocalo.dispatcher.logbook_location"] = str(tmp_path / "log")
    site.dispatch({"recipes": ["good"], "parameters": {"guid": "abcdef"}}, {"zocalo.go.user": "me"})
    [entry] = (tmp_path / "log").glob("*/ab/cdef")
    text = entry.read_text()
    for heading in ("message header", "message body", "Parsed message", "Recipe object"):
        assert heading in text
    assert '"zocalo.go.user": "me"' in text
    assert entry.parent.parent.name == time.strftime("%Y-%m")


def test_a_recipe_id_never_leads_out_of_the_logbook(site: Site, tmp_path: Path) -> None:
    site.settings["zocalo.dispatcher.logbook_location"] = str(tmp_path / "a" / "log")
    for guid in ("../../../../x", "/etc/passwd", "a", 17):
        site.dispatch({"recipes": ["good"], "parameters": {"guid": guid}})
    assert site.dead() == []
    assert len([file for file in (tmp_path / "a").rglob("*") if file.is_file()]) == 4
    assert not (tmp_path / "x").exists()


@pytest.fixture
def plug_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str, str], None]:
    """Install a site's own package with one function behind an entry point."""

    def install(group: str, name: str, code: str) -> None:
        module = f"site_{name}"
        place = tmp_path / "installed" / name
        info = place / f"{module}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[{group}]\n{name} = {module}:{name}\n")
        (place / f"{module}.py").write_text(textwrap.dedent(code))
        monkeypatch.syspath_prepend(str(place))
        monkeypatch.delitem(sys.modules, module, raising=False)

    return install


FILTERS = "zocalo.services.dispatcher.filters"
READY = "zocalo.services.dispatcher.ready_for_processing"


def test_a_site_s_filters_run_first_and_add_parameters(site: Site, plug_in: Any) -> None:
    plug_in(
        FILTERS,
        "adds",
        """
        def adds(message, parameters):
            assert not message["recipe"]
            return message, {**parameters, "x": "from the filter"}
        """,
    )
    site.dispatch({"recipes": ["good"]})
    assert site.messages("first")[0].body["payload"] == "from the filter"


def test_the_logbook_holds_the_request_as_the_filters_leave_it(
    site: Site, plug_in: Any, tmp_path: Path
) -> None:
    plug_in(
        FILTERS,
        "notes",
        """
        import datetime

        def notes(message, parameters):
            date = datetime.date(2026, 11, 28)
            return {**message, "added": date, "recipes": ["good"]}, parameters
        """,
    )
    site.settings["zocalo.dispatcher.logbook_location"] = str(tmp_path / "log")
    site.dispatch({"recipes": ["other"], "parameters": {"guid": "abcdef"}})
    [entry] = (tmp_path / "log").glob("*/ab/cdef")
    incoming, _, parsed = entry.read_text().partition("Parsed message body:\n")
    parsed, _, recipe = parsed.partition("Recipe object:\n")
    assert '"other"' in incoming
    assert json.loads(parsed) == {
        "recipes": ["good"], "parameters": {"guid": "abcdef"}, "added": "2026-11-28",
    }  # fmt: skip
    assert '"first"' in recipe


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("{(1, 2): chr(0xDCFF)}", r"'added': {(1, 2): '\udcff'}"),
        ("Odd()", "This section holds a value that cannot be written."),
    ],
)
def test_a_filter_that_leaves_what_is_no_json_costs_one_section_of_the_logbook(
    site: Site, plug_in: Any, tmp_path: Path, value: str, expected: str
) -> None:
    code = f"""
        class Odd:
            def __repr__(self):
                raise RuntimeError("as a class of a site may")

        def odd(message, parameters):
            return {{**message, "added": {value}}}, parameters
        """
    plug_in(FILTERS, "odd", code)
    site.settings["zocalo.dispatcher.logbook_location"] = str(tmp_path / "log")
    site.dispatch({"recipes": ["other"], "parameters": {"guid": "abcdef"}})
    assert site.dead() == []
    [entry] = (tmp_path / "log").glob("*/ab/cdef")
    text = entry.read_text()
    assert expected in text.partition("Parsed message body:\n")[2].partition("Recipe object:\n")[0]
    assert '"other"' in text.partition("Recipe object:\n")[2]


def test_a_filter_may_make_the_recipe(site: Site, plug_in: Any) -> None:
    code = f"def makes(message, parameters): return {{'recipe': {OTHER}}}, parameters"
    plug_in(FILTERS, "makes", code)
    site.dispatch({"recipes": ["good"]})
    assert len(site.messages("other")) == 1
    assert site.messages("first") == [], "it left no names of recipes"


THEIRS = f"""
        class Recipe:  # as in python-workflows
            def __init__(self, recipe):
                self.recipe = recipe

        GRAPH = {OTHER}
        GRAPH = {{1: GRAPH["1"], "start": [tuple(pair) for pair in GRAPH["start"]]}}
"""


@pytest.mark.parametrize(
    "code",
    [
        "message['recipe'] = Recipe(GRAPH)",
        "message['recipe'] = message['recipe'].merge(Recipe(GRAPH))",
        "message = {**message, 'recipe': message['recipe'].merge(GRAPH)}",
    ],
)
def test_a_filter_may_leave_a_recipe_of_python_workflows(
    site: Site, plug_in: Any, code: str
) -> None:
    function = f"        def makes(message, parameters):\n            {code}\n"
    plug_in(FILTERS, "makes", f"{THEIRS}\n{function}            return message, parameters\n")
    site.dispatch({"recipes": ["good"], "parameters": {"x": "X"}})
    assert site.dead() == []
    assert len(site.messages("other")) == 1
    assert site.messages("first")[0].body["payload"] == "X"


FILLS = """
        def fills(message, parameters):
            recipe = message["recipe"] = message["recipe"].merge(
                {"start": [[1, "{x}"]], "1": {"queue": "filled", "more": {"commands": "a {x}"}}}
            )
            recipe.apply_parameters({"x": "b; c"})
            return message, parameters
"""


@pytest.mark.parametrize(("quoted", "commands"), [(False, "a b; c"), (True, "a 'b; c'")])
def test_a_filter_fills_in_the_recipe_itself_as_the_site_wants_it(
    site: Site, plug_in: Any, quoted: bool, commands: str
) -> None:
    """The recipe is changed in place, as in python-workflows; values in shell text stay values."""
    site.settings["zwrap.quote_commands"] = quoted
    plug_in(FILTERS, "fills", FILLS)
    site.dispatch({"recipes": ["good"], "parameters": {"x": "of the request"}})
    [first] = site.messages("filled")
    assert first.body["payload"] == "b; c"
    assert first.body["recipe"]["1"]["more"] == {"commands": commands}
    assert site.messages("first")[0].body["payload"] == "of the request"


@pytest.mark.parametrize("kind", [FILTERS, READY])
def test_of_two_functions_of_one_name_the_last_one_is_called(
    kind: str, site: Site, plug_in: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """As in python-zocalo, which keeps them by name; which one is not called is said."""
    code = "def {}(message, parameters):\n assert {}\n return message, parameters\n"
    for name, good in (("last", True), ("first", False)):  # each goes before those on the path
        plug_in(kind, name, code.format(name, good))
        info = tmp_path / "installed" / name / f"site_{name}-1.0.dist-info"
        (info / "entry_points.txt").write_text(f"[{kind}]\nsame = site_{name}:{name}\n")
    site.dispatch({"recipes": ["good"], "parameters": {"x": 1}})
    assert site.dead() == []
    assert len(site.messages("first")) == 1
    said = f"'same' in group {kind} is installed twice: site_last:last is used, and site_first:"
    assert said in caplog.text


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (
            "import zwrap.errors as e\ndef bad(m, p): raise e.MessageError('dcid is no number.')",
            "dcid is no number.",
        ),
        ("def bad(m, p): return None", "site_bad.bad returned NoneType; the pair"),
        ("def bad(m, p): return None, p", "site_bad.bad returned NoneType, dict; the pair"),
        ("def bad(m, p): return m, [p]", "site_bad.bad returned dict, list; the pair"),
        ("def bad(m, p): return m, p, m", "site_bad.bad returned dict, dict, dict; the pair"),
        (
            "def bad(m, p): return {'recipe': 5}, p",
            "left an object of type int under key 'recipe'; a recipe is",
        ),
        (
            "class R: recipe = {}\ndef bad(m, p): R.recipe[1] = R.recipe; return {'recipe': R}, p",
            "left a recipe with a value that refers to itself",
        ),
    ],
)
def test_a_failing_filter_is_a_fault_of_the_message(
    site: Site, plug_in: Any, code: str, reason: str
) -> None:
    plug_in(FILTERS, "bad", code)
    site.dispatch({"recipes": ["good"]})
    assert reason in site.dead()[0]


ENDLESS = [
    ("m['x'] = m", "m, p"),
    ("p['x'] = [p, p]", "m, p"),
    ("m = {**m, 'recipe': {'start': m}}; m['recipe']['start'] = m['recipe']", "m, p"),
    ("m = {**m, 'custom_recipe': m}; m['custom_recipe'] = m", "m, p"),
    ("for _ in range(251): p = {'x': p}", "m, p"),
    ("p['x'] = p", "None"),
]


@pytest.mark.parametrize(("code", "answer"), ENDLESS)
@pytest.mark.parametrize("kind", [FILTERS, READY])
def test_a_site_s_function_is_named_whose_value_refers_to_itself(
    kind: str, code: str, answer: str, site: Site, plug_in: Any, caplog: pytest.LogCaptureFixture
) -> None:
    if kind == READY:  # it can change what it is given only
        code, answer = "p['x'] = {'y': [p, p]}", "True"
    plug_in(kind, "bad", f"def bad(m, p):\n {code}\n return {answer}")
    site.dispatch({"recipes": ["good"]})
    said = "The site's function site_bad.bad left a request with a value that refers to itself"
    assert site.dead()[0].startswith(said)
    assert "Traceback" not in caplog.text


def test_a_filter_may_drop_the_recipe_id(site: Site, plug_in: Any) -> None:
    plug_in(FILTERS, "drops", "def drops(m, p): return m, {'x': 5}")
    site.dispatch({"recipes": ["good"], "parameters": {"guid": "of-the-request"}})
    assert site.messages("first")[0].body["environment"] == {"ID": "of-the-request"}


def test_an_exception_of_a_filter_that_is_not_permanent_is_tried_again(
    site: Site, plug_in: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zwrap.service.settling.RETRY_FIRST_S", 0.001)
    plug_in(FILTERS, "bad", "def bad(m, p): raise KeyError('dcid')")
    site.dispatch({"recipes": ["good"]})
    for count in range(2, Service.delivery_limit + 1):
        assert site.dead() == []
        delivery = site.transport.receive(1)
        assert delivery
        assert delivery.delivery_count == count
        assert site.service
        handle_delivery(site.service, delivery)
    said = (
        "The message was tried 5 times. KeyError: 'dcid' The site's function site_bad.bad failed."
    )
    assert site.dead()[0].startswith(said)
    assert caplog.text.count("Traceback") == 1


AWAY = [
    "from zwrap.errors import TemporaryError\ndef bad(m, p): raise TemporaryError('not now')",
    "from zwrap.errors import OutageError\ndef bad(m, p): raise OutageError('not now')",
    "import sqlite3\ndef bad(m, p): sqlite3.connect('/nowhere/database')",
    "import errno\ndef bad(m, p): raise OSError(errno.ECONNREFUSED, 'Connection refused')",
]


@pytest.mark.parametrize("code", AWAY)
def test_while_the_database_of_a_filter_is_away_no_request_is_condemned(
    site: Site, plug_in: Any, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zwrap.service.settling.RETRY_FIRST_S", 0.001)
    plug_in(FILTERS, "bad", code)
    site.dispatch({"recipes": ["good"]})
    for _ in range(30):
        delivery = site.transport.receive(1)
        assert delivery
        assert delivery.delivery_count == 1
        assert site.service
        handle_delivery(site.service, delivery)
        monkeypatch.setattr("zwrap.service.settling.RETRY_LAST_S", 0.001)
    assert site.dead() == []


READY_CODE = "def ready(message, parameters): return parameters.get('go')"


def test_a_request_that_is_not_ready_comes_again_later(site: Site, plug_in: Any) -> None:
    plug_in(READY, "ready", READY_CODE)
    site.dispatch({"recipes": ["good"]}, {"zocalo.go.user": "me"})
    [again] = site.messages("processing_recipe")
    assert again.headers["zocalo.go.user"] == "me"
    assert again.body["parameters"]["dispatcher_expiration"] == pytest.approx(
        time.time() + 120, abs=10
    )
    assert again.body["parameters"]["guid"]
    assert site.transport.receive(0.05) is None, "it waits"
    assert site.messages("first") == []


def test_a_request_inside_a_recipe_keeps_its_recipe_while_it_waits(
    site: Site, plug_in: Any
) -> None:
    plug_in(READY, "ready", READY_CODE)
    outer = Envelope(Recipe(OTHER), 1, payload={"recipes": ["good"]}, environment={"ID": "outer"})
    site.dispatch(outer.body(), {RECIPE_HEADER: True})
    [again] = site.messages("processing_recipe")
    assert again.is_recipe
    assert again.body["environment"] == {"ID": "outer"}
    assert "dispatcher_expiration" in again.body["payload"]["parameters"]


@pytest.mark.parametrize(
    "timeout",
    [
        "soon",
        "nan",
        "inf",
        "-Infinity",
        pytest.param(10**400, id="large"),
        [],
        {"a": 1},
        "9" * 5000,
    ],
)
@pytest.mark.parametrize("name", ["dispatcher_timeout", "dispatcher_expiration"])
def test_a_timeout_that_is_no_number_is_refused(
    site: Site, plug_in: Any, name: str, timeout: Any
) -> None:
    plug_in(READY, "ready", READY_CODE)
    site.dispatch({"recipes": ["good"], "parameters": {name: timeout}})
    [reason] = site.dead()
    assert f"Parameter '{name}' of the request is {repr(timeout)[:20]}" in reason
    assert len(reason) < 1000


def test_a_request_that_never_becomes_ready_ends(site: Site, plug_in: Any) -> None:
    plug_in(READY, "ready", READY_CODE)
    past = {"dispatcher_expiration": time.time() - 1, "dispatcher_timeout": 5}
    site.dispatch({"recipes": ["good"], "parameters": past})
    assert "did not become ready within 5 s" in site.dead()[0]
    late = {"parameters": {**past, "dispatcher_error_queue": "late"}}
    site.dispatch(late)
    outer = Envelope(Recipe(OTHER), 1, payload=late, environment={"ID": "outer"})
    site.dispatch(outer.body(), {RECIPE_HEADER: True})
    assert [message.is_recipe for message in site.messages("late")] == [False, True]


class Scripted(Service):
    """Does what it is told, in turn."""

    queue = "in"
    plain_messages = True

    def __init__(self, transport: Transport) -> None:
        super().__init__(Configuration(), transport)
        self.acts: list[Any] = []
        self.handled = 0

    def handle(self, delivery: Delivery, envelope: Envelope | None) -> None:
        self.handled += 1
        act = self.acts.pop(0) if self.acts else None
        if isinstance(act, BaseException):
            raise act
        delivery.ack()


def once(transport: Transport, service: Service) -> Delivery:
    delivery = transport.receive(5)
    assert delivery
    handle_delivery(service, delivery, lambda seconds: None)
    return delivery


def test_a_permanent_error_is_a_dead_letter_and_tells_the_error_nodes() -> None:
    transport = MemoryTransport()
    service = Scripted(transport)
    service.acts = [PermanentError("it cannot be")]
    recipe = Recipe({"start": [[1, 0]], "1": {"queue": "in", "error": 2}, "2": {"queue": "errors"}})
    transport.commit(Envelope(recipe, 1, environment={"ID": "g"}).start())
    transport.subscribe("in")
    once(transport, service)
    [letter] = transport.broker.dead_letters["in"]
    assert letter.reason.startswith("it cannot be\n")
    assert "recipe g, route 1" in letter.reason
    [told] = transport.broker.queues["errors"]
    assert told.message.body["payload"] == {
        "error": "it cannot be", "service": "Scripted", "step": 1,
    }  # fmt: skip


def test_a_recipe_whose_every_way_is_wrong_does_not_end_the_service(tmp_path: Path) -> None:
    transport = SpoolTransport(tmp_path)
    service = Scripted(transport)
    service.acts = [PermanentError("it cannot be")]
    recipe = Recipe({"start": [[1, 0]], "1": {"queue": "in", "error": 2}, "2": {"queue": "a/b"}})
    transport.commit(Envelope(recipe, 1).start())
    transport.subscribe("in")
    once(transport, service)
    [(_, reason)] = transport.queue("in").dead_letters()
    assert reason.startswith("it cannot be\n")
    assert "The error could not be sent to its error nodes: 'a/b' cannot be a queue" in reason
    transport.close()


def test_a_temporary_error_costs_no_attempt_however_long_it_lasts() -> None:
    transport = MemoryTransport()
    service = Scripted(transport)
    service.acts = [
        UnreachableError("down", retry_after_s=0.01) for _ in range(3 * Service.delivery_limit)
    ]
    transport.send("in", 1)
    transport.subscribe("in")
    attempts = {
        once(transport, service).delivery_count for _ in range(3 * Service.delivery_limit + 1)
    }
    assert attempts == {1}
    assert transport.broker.dead_letters == {}


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let messages that failed come again soon."""
    monkeypatch.setattr("zwrap.service.settling.RETRY_FIRST_S", 0.001)


@pytest.mark.usefixtures("impatient")
def test_a_full_queue_behind_the_service_is_waited_out() -> None:
    transport = MemoryTransport()
    service = Scripted(transport)
    service.acts = [QueueFullError("full")]
    transport.send("in", 1)
    transport.subscribe("in")
    assert once(transport, service).delivery_count == once(transport, service).delivery_count == 1


@pytest.mark.usefixtures("impatient")
def test_a_service_without_its_transport_ends_and_gives_the_message_back() -> None:
    transport = MemoryTransport()
    service = Scripted(transport)
    service.acts = [TransportError("gone")]
    transport.send("in", 1)
    transport.subscribe("in")
    with pytest.raises(TransportError):
        once(transport, service)
    assert once(transport, service).delivery_count == 1


@pytest.mark.usefixtures("impatient")
def test_a_fault_of_the_service_is_tried_again_and_then_a_dead_letter_with_traceback() -> None:
    transport = MemoryTransport()
    service = Scripted(transport)
    service.acts = [ZeroDivisionError("a bug") for _ in range(9)]
    transport.send("in", 1)
    transport.subscribe("in")
    assert [once(transport, service).delivery_count for _ in range(Service.delivery_limit)] == [
        1,
        2,
        3,
        4,
        5,
    ]
    [letter] = transport.broker.dead_letters["in"]
    assert "ZeroDivisionError: a bug" in letter.reason
    assert "Traceback" in letter.reason


def test_after_each_fault_of_the_service_a_message_comes_again_later() -> None:
    """The delay is doubled each time, up to a minute."""
    transport = Noting()
    service = Scripted(transport)
    service.delivery_limit = 10
    service.acts = [ZeroDivisionError("a bug") for _ in range(9)]
    for count in range(1, 10):
        handle_delivery(service, transport.handed_out(count))
    assert [each.delay_s for each in transport.settlements] == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert all(each.counted for each in transport.settlements)


class Gathering(Scripted):
    """Takes what waits in batches, and remembers these."""

    prefetch = 10
    batch_size = 10

    def __init__(self, transport: Transport) -> None:
        super().__init__(transport)
        self.batches: list[list[Any]] = []

    def handle_all(self, work: Sequence[Work]) -> list[Exception | None]:
        self.batches.append([each.delivery.message.body for each in work])
        return super().handle_all(work)


def test_what_waits_is_handled_together_once_a_message_went_well() -> None:
    transport = MemoryTransport()
    service = Gathering(transport)
    for number in range(25):
        transport.send("in", number)
    Loop(service, transport, once=True).run()
    assert service.batches == [[0], list(range(1, 11)), list(range(11, 21)), list(range(21, 25))]


def test_each_of_those_that_are_handled_together_has_its_own_fate() -> None:
    transport = MemoryTransport()
    service = Gathering(transport)
    service.acts = [None, PermanentError("no"), None, UnreachableError("down", retry_after_s=60)]
    for number in range(5):
        transport.send("in", number)
    with pytest.raises(OutageError, match="down"):
        Loop(service, transport, once=True).run()
    assert service.batches == [[0], [1, 2, 3, 4]]
    assert [letter.message.body for letter in transport.broker.dead_letters["in"]] == [1]
    assert [entry.message.body for entry in transport.broker.queues["in"]] == [3]


def test_what_kills_its_receivers_takes_no_neighbour_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A message that was handed out before is handled alone, by a service that holds no other."""
    for module in (contract, loop, settling):
        monkeypatch.setattr(module, "as_failure", survived)
    broker = MemoryBroker()
    transport = MemoryTransport(broker)
    killer = Gathering(transport)
    for number in range(8):
        transport.send("in", number)
    lives = 0
    while broker.queues["in"] and lives < 20:
        lives += 1
        transport = MemoryTransport(broker)
        killer = Gathering(transport)
        killer.handle = lambda delivery, _: die_of(3, delivery)  # type: ignore[method-assign]
        with contextlib.suppress(Killed):
            Loop(killer, transport, once=True).run()
        transport.close()
    assert [letter.message.body for letter in broker.dead_letters["in"]] == [3]
    assert lives == Service.delivery_limit + 1


class Killed(BaseException):
    """Stands for the death of a process."""


def survived(error: BaseException) -> Exception:
    if isinstance(error, Killed):
        raise error
    return as_failure(error)


def die_of(body: int, delivery: Delivery) -> None:
    if delivery.message.body == body:
        raise Killed
    delivery.ack()


def test_a_message_that_killed_its_receivers_is_not_handled_again() -> None:
    transport = MemoryTransport()
    service = Scripted(transport)
    transport.send("in", 1)
    for _ in range(Service.delivery_limit):
        victim = MemoryTransport(transport.broker)
        victim.subscribe("in")
        assert victim.receive(5)
        victim.close()
    transport.subscribe("in")
    once(transport, service)
    assert service.handled == 0
    assert "handed out 5 times and never finished" in transport.broker.dead_letters["in"][0].reason


def test_a_plain_message_is_refused_where_only_recipes_are_taken() -> None:
    transport = MemoryTransport()
    service = Scripted(transport)
    type(service).plain_messages = False
    try:
        transport.send("in", 1)
        transport.subscribe("in")
        once(transport, service)
    finally:
        type(service).plain_messages = True
    assert "takes recipe messages only" in transport.broker.dead_letters["in"][0].reason


@pytest.mark.parametrize(
    ("command", "ends"),
    [
        ({"command": "shutdown", "service": "Scripted"}, True),
        ({"command": "shutdown", "service": "Other"}, False),
        ({"command": "shutdown", "host": "h.1"}, False),
        ({"command": "shutdown", "service": "Scripted", "host": "h.1"}, False),
        ({"command": "shutdown"}, False),
        ({"command": "dance", "service": "Scripted"}, False),
        ("shutdown", False),
    ],
)
def test_a_shutdown_is_obeyed_when_every_condition_holds(command: Any, ends: bool) -> None:
    transport = MemoryTransport()
    loop = Loop(Scripted(transport), transport)
    loop._command(Message(command, {}, "m"))
    assert loop._stop.is_set() is ends


def test_once_handles_what_waits_and_ends_and_the_status_is_told() -> None:
    transport = MemoryTransport()
    listener = MemoryTransport(transport.broker)
    listener.subscribe_topic("transient.status")
    service = Scripted(transport)
    for number in range(3):
        transport.send("in", number)
    Loop(service, transport, once=True, tag="mine").run()
    assert service.handled == 3
    seen = []
    while delivery := listener.receive(0.05):
        seen.append(delivery.message.body)
    assert seen[-1]["status"] == 6
    assert seen[0]["serviceclass"] == "Scripted"
    assert seen[0]["tag"] == "mine"
    assert {"host", "status", "statustext", "service", "utilization", "workflows", "zocalo"} <= set(
        seen[0]
    )


def test_a_lifetime_ends_the_loop() -> None:
    transport, clock = MemoryTransport(), ManualClock()
    service = Scripted(transport)
    service.poll_s = lambda: 0.0  # type: ignore[method-assign]
    turns = []

    def idle() -> None:
        turns.append(clock())
        clock.move(10)

    service.idle = idle  # type: ignore[method-assign]
    Loop(service, transport, lifetime_s=35, clock=clock).run()
    assert turns == [1000, 1010, 1020, 1030]


@pytest.mark.parametrize("failure", [None, TransportError("gone")], ids=["clean", "failed"])
def test_at_the_end_a_service_is_closed_and_what_it_sent_is_confirmed(
    failure: Exception | None,
) -> None:
    transport = MemoryTransport()
    service = Scripted(transport)
    done: list[str] = []
    service.close = lambda: done.append("closed")  # type: ignore[method-assign]
    transport.flush = lambda timeout_s=30: done.append("flushed")  # type: ignore[method-assign]
    service.acts = [failure]
    transport.send("in", 1)
    with pytest.raises(TransportError) if failure else contextlib.nullcontext():
        Loop(service, transport, once=True).run()
    assert done == ["closed", "flushed"]


def test_a_service_without_work_is_idle() -> None:
    transport = MemoryTransport()
    service = Scripted(transport)
    loop = Loop(service, transport, once=True)
    seen: list[Status] = []
    service.idle = lambda: seen.append(loop._status._status)  # type: ignore[method-assign]
    loop.run()
    assert seen == [Status.IDLE]


def test_a_service_shows_signs_of_life_while_its_loop_turns() -> None:
    clock = ManualClock()
    service = Scripted(MemoryTransport())
    liveness = Liveness(service, clock)
    clock.move(7)
    assert liveness.silence_s() == 7
    liveness.turn()
    assert liveness.silence_s() == 0
    clock.move(3)
    with liveness.at_work():
        assert liveness.silence_s() == 0
        clock.move(50)
        assert liveness.silence_s() == 50
        type(service).unbounded = True
        try:
            assert liveness.silence_s() == 0, "its work may take any time"
        finally:
            type(service).unbounded = False
    assert liveness.silence_s() == 0


def test_a_service_without_a_queue_takes_no_messages() -> None:
    class Idle(Service):
        pass

    transport = MemoryTransport()
    service = Idle(Configuration(), transport)
    with pytest.raises(MessageError, match="Idle takes no messages, so not m either"):
        service.handle(Delivery(transport, Message(1, {}, "m"), "q", delivery_count=1,
                                topic=False), None)  # fmt: skip


def test_errors_are_permanent_or_temporary() -> None:
    assert issubclass(UnreachableError, TemporaryError)
    assert (PermanentError.exit_status, TemporaryError.exit_status) == (100, 111)
    assert Outgoing("q", 1).expires_s is None
