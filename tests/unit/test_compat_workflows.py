"""The names of python-workflows: which there are, and what they do outside of a service."""

from __future__ import annotations

import argparse
import json
import logging
import optparse
import pkgutil
import re
import runpy
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from zwrap.compat import workflows
from zwrap.compat.workflows import transport as transports
from zwrap.compat.workflows.recipe import Recipe, RecipeWrapper, wrap_subscribe
from zwrap.compat.workflows.recipe.validate import main, validate_recipe
from zwrap.compat.workflows.services import common_service
from zwrap.compat.workflows.services.common_service import CommonService
from zwrap.compat.workflows.transport import site, site_transport
from zwrap.compat.workflows.transport.offline_transport import OfflineTransport
from zwrap.compat.workflows.transport.pika_transport import PikaTransport
from zwrap.compat.workflows.transport.site_transport import SiteTransport
from zwrap.compat.workflows.transport.spool_transport import SpoolTransport
from zwrap.compat.workflows.transport.stomp_transport import StompTransport
from zwrap.configuration.site import Configuration
from zwrap.errors import RecipeError
from zwrap.message.content import RECIPE_HEADER, Status
from zwrap.transport.memory import MemoryBroker, MemoryTransport
from zwrap.transport.options import BrokerOptions

PAGE = (Path(__file__).parents[2] / "docs" / "compat-workflows.md").read_text()
ROWS = re.findall(r"^\| `(workflows[\w.:]*)` \|(.*)\|(.*)\|$", PAGE, re.MULTILINE)
RECORDED = Path(__file__).with_name("recorded") / "workflows-3.5-names.json"
"""Public names of python-workflows 3.5, by module and class."""


def named(cell: str) -> set[str]:
    """Return the names in a cell of the page, which stand before an explanation."""
    parts = (part.partition(": ")[0] for part in cell.split("; "))
    return {name for part in parts for name in re.findall(r"`(\w+)`", part)}


def of_page() -> dict[str, tuple[set[str], set[str]]]:
    """Return, for each module and class of the page, the names that there are, and are not."""
    return {module: (named(there), named(absent)) for module, there, absent in ROWS}


def test_the_rule_for_imports_lets_the_most_usual_form_run(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "compat-zocalo.md").read_text()
    command, search = re.findall(r"^```sh\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    (tmp_path / "FILE.py").write_text(
        "import workflows.recipe\nimport zocalo.util.symlink\n"
        "from workflows.services.common_service import CommonService\n"
        "import workflows.recipe.wrapper as w\n"
        "used = workflows.recipe.wrap_subscribe, zocalo.util.symlink, CommonService, w\n"
    )
    subprocess.run(["bash", "-c", command], cwd=tmp_path, check=True)
    found = runpy.run_path(str(tmp_path / "FILE.py"))["used"]
    assert found[0] is wrap_subscribe
    assert found[2] is CommonService
    (tmp_path / "FILE.py").write_text(
        "import workflows.recipe  # noqa: F401\nimport json, workflows\n\timport zocalo\n"
    )
    subprocess.run(["bash", "-c", command], cwd=tmp_path, check=True)
    changed = (tmp_path / "FILE.py").read_text().splitlines()
    assert changed[0] == (
        "import zwrap.compat.workflows.recipe; from zwrap.compat import workflows  # noqa: F401"
    )
    left = subprocess.run(["bash", "-c", search], cwd=tmp_path, capture_output=True, check=True)
    assert left.stdout.decode() == "2:import json, workflows\n"


def test_the_states_of_a_service_are_those_of_zwrap_s_own() -> None:
    assert common_service.Status is Status
    assert CommonService.SERVICE_STATUS_NONE == -1
    assert CommonService.human_readable_state[CommonService.SERVICE_STATUS_TIMER] == "timer event"


# -- names ---------------------------------------------------------------------------------------


def test_the_page_lists_every_public_name() -> None:
    recorded = {key: set(names.split()) for key, names in json.loads(RECORDED.read_text()).items()}
    assert {key: there | absent for key, (there, absent) in of_page().items()} == recorded


def resolved(module: str, name: str) -> object:
    """Return what is under a name of python-workflows; AttributeError if there is none."""
    separator = "." if ":" in module else ":"
    return pkgutil.resolve_name(f"zwrap.compat.{module}{separator}{name}")


@pytest.mark.parametrize(
    ("module", "name"),
    [(module, name) for module, (there, _) in of_page().items() for name in sorted(there)],
)
def test_each_name_that_there_is_can_be_imported(
    module: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(site, "_given", [Configuration()])
    assert resolved(module, name) is not None


@pytest.mark.parametrize(
    ("module", "name"),
    [(module, name) for module, (_, absent) in of_page().items() for name in sorted(absent)],
)
def test_each_name_that_there_is_not_cannot(module: str, name: str) -> None:
    with pytest.raises((AttributeError, ImportError)):
        resolved(module, name)


def test_the_top_has_a_version_and_an_id_of_this_process() -> None:
    assert workflows.version() == workflows.__version__
    assert workflows.version().count(".") == 1
    from zwrap.compat.workflows.util import generate_unique_host_id

    assert "." in generate_unique_host_id()


# -- recipes -------------------------------------------------------------------------------------

GRAPH: dict[str, Any] = {
    "1": {"queue": "{name}.in", "output": 2, "data": "{$REPLACE:values}"},
    "2": {"queue": "out", "topic": "told", "exchange": "results", "transport-delay": 5},
    "start": [[1, {"a": 1}]],
}


def test_a_recipe_is_changed_in_place_and_its_source_is_not() -> None:
    recipe = Recipe(GRAPH)
    recipe.apply_parameters({"name": "first", "values": [1, 2]})
    assert recipe[1] == {"queue": "first.in", "output": [2], "data": [1, 2]}
    assert recipe["start"] == [(1, {"a": 1})]
    recipe.recipe[2]["queue"] = "changed"
    assert GRAPH["2"]["queue"] == "out"
    assert Recipe(recipe.pretty()) == recipe == recipe.serialize()
    assert recipe != Recipe(GRAPH)


def test_merging_changes_neither_recipe() -> None:
    first, second = Recipe(GRAPH), Recipe({"7": {"queue": "x"}, "start": [[7, "seven"]]})
    both = first.merge(second)
    assert (first, second) == (Recipe(GRAPH), Recipe({7: {"queue": "x"}, "start": [(7, "seven")]}))
    assert both["start"] == [(1, {"a": 1}), (3, "seven")]
    assert both[3] == {"queue": "x"}
    both.validate()
    assert first.merge(None) == first
    assert Recipe().merge(second) == second


def test_what_is_wrong_with_a_recipe_is_told() -> None:
    with pytest.raises(workflows.Error, match=r"node 3, which|node 3 does not exist"):
        Recipe({"1": {"output": 3}, "start": [[1, []]]}).validate()
    with pytest.raises(workflows.Error, match="must be a JSON object, not list"):
        Recipe("[1]")


def test_recipe_files_are_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    good.write_text(json.dumps(GRAPH))
    bad.write_text("{")
    validate_recipe(str(good))
    with pytest.raises(json.JSONDecodeError):
        validate_recipe(str(bad))
    monkeypatch.setattr("sys.argv", ["validate", str(good)])
    main()
    monkeypatch.setattr("sys.argv", ["validate", str(good), str(bad)])
    with pytest.raises(SystemExit, match=f"Errors found in the following recipes: {bad}"):
        main()


class Noted:
    """A transport that notes its calls."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, Any, dict[str, Any]]] = []

    def __getattr__(self, call: str) -> Callable[..., None]:
        return lambda to, message, **how: self.calls.append((call, to, message, how))


def test_a_step_sends_to_queue_and_topic_of_its_output() -> None:
    transport = Noted()
    message = {"recipe": GRAPH, "recipe-pointer": "1", "recipe-path": [], "mine": "kept"}
    step = RecipeWrapper(message=message, transport=transport)
    step.environment["ID"] = "guid"
    step.send("payload", header={"tag": 1}, transaction=3)
    expected = {
        "recipe": step.recipe.recipe,
        "recipe-pointer": 2,
        "recipe-path": [1],
        "environment": {"ID": "guid"},
        "payload": "payload",
        "mine": "kept",
    }
    how = {"headers": {"tag": 1, RECIPE_HEADER: True}, "transaction": 3, "delay": 5}
    assert transport.calls == [
        ("send", "out", expected, {**how, "exchange": "results"}),
        ("broadcast", "told", expected, how),
    ]


def test_a_tool_may_put_a_step_in_again_as_it_was() -> None:
    """By a name that python-workflows keeps to itself, and public tools use all the same."""
    transport = Noted()
    message = {"recipe": GRAPH, "recipe-pointer": 2, "recipe-path": [1], "payload": "p"}
    step = RecipeWrapper(message=message, transport=transport)
    step._send_to_destination(step.recipe_pointer, None, step.payload, {"delay": 1}, False)
    (call, to, sent, how), *_ = transport.calls
    assert (call, to, sent["payload"], sent["recipe-path"]) == ("send", "out", "p", [1])
    assert (how["delay"], how["headers"]) == (1, {RECIPE_HEADER: True})


def test_a_recipe_is_started_once_and_has_no_step_before() -> None:
    transport = Noted()
    step = RecipeWrapper(recipe=GRAPH, transport=transport, environment={"ID": "guid"})
    with pytest.raises(ValueError, match="at no step"):
        step.send(1)
    step.start()
    [(call, to, message, _)] = transport.calls
    assert (call, to, message["payload"]) == ("send", "{name}.in", {"a": 1})
    with pytest.raises(ValueError, match="already been started"):
        RecipeWrapper(message=message, transport=transport).start()
    with pytest.raises(ValueError, match="no transport"):
        RecipeWrapper(recipe=GRAPH).start()
    with pytest.raises(ValueError, match="needs a message or a recipe"):
        RecipeWrapper()


# -- tests of services ---------------------------------------------------------------------------


def test_start_prepares_a_service_for_a_test(caplog: pytest.LogCaptureFixture) -> None:
    class Service(CommonService):
        def initializing(self) -> None:
            self.number = self.transport.subscribe("in", self.take)

        def take(self, header: Any, message: Any) -> None:
            self.transport.send("out", message)

    service = Service(environment={"config": None})
    service.transport = OfflineTransport()
    with caplog.at_level(logging.INFO):
        service.start()
        service.take({}, {"a": 1})
    assert "Offline Transport: Subscribing to messages on in" in caplog.text
    assert "Offline Transport: Sending 8 bytes to out" in caplog.text
    assert not service.transport.is_connected()


def test_metrics_of_a_service_are_refused() -> None:
    service = CommonService(environment={"metrics": {"port": 1}})
    service.transport = OfflineTransport()
    with pytest.raises(workflows.Error, match="offers no metrics"):
        service.start_transport()


# -- transports of programs ----------------------------------------------------------------------


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Iterator[MemoryBroker]:
    """Let transports of programs connect to a broker in memory, and forget their settings."""
    broker = MemoryBroker()
    monkeypatch.setattr(site, "_given", [Configuration()])
    monkeypatch.setattr(site_transport, "connect", lambda *_: MemoryTransport(broker))
    monkeypatch.setattr(site_transport, "RETRY_FIRST_S", 0.0)
    monkeypatch.setattr(site_transport, "RETRY_LAST_S", 0.0)
    monkeypatch.setattr(PikaTransport, "config", {})
    monkeypatch.setattr(PikaTransport, "defaults", {})
    return broker


def test_callbacks_of_a_program_run_and_their_faults_stay_with_their_message(
    broker: MemoryBroker,
) -> None:
    sender = MemoryTransport(broker)
    done, seen = threading.Event(), []
    transport = SpoolTransport()

    def take(header: Any, message: Any) -> None:
        seen.append(message)
        if message == "bad":
            raise ValueError(message)
        if message == "end":
            done.set()
        transport.ack(header)

    assert transport.connect()
    transport.subscribe("in", take, acknowledgement=True, prefetch_count=10)
    for each in ("bad", "good"):
        sender.send("in", each)
    with broker.changed:
        assert broker.changed.wait_for(lambda: broker.dead_letters.get("in"), 20)
    sender.send("in", "end")
    assert done.wait(20)
    transport.disconnect()
    assert sorted(seen) == [*["bad"] * 5, "end", "good"]
    assert "ValueError: bad" in broker.dead_letters["in"][0].reason
    assert broker.queues["in"] == []
    assert not transport.is_connected()
    with pytest.raises(workflows.Disconnected, match="connect"):
        transport.send("out", 1)


def test_a_program_takes_no_recipe_message_that_a_service_would_refuse(
    broker: MemoryBroker,
) -> None:
    sender, seen = MemoryTransport(broker), []
    transport = SpoolTransport()
    transport.connect()
    wrap_subscribe(transport, "in", lambda *args: seen.append(args), acknowledgement=True)
    recipe = {
        "1": {"queue": "in", "output": 2},
        "2": {"queue": "zwrap.verdict"},
        "start": [[1, []]],
    }
    body = {"recipe": recipe, "recipe-pointer": 1, "recipe-path": [], "environment": {}}
    sender.send("in", body, {RECIPE_HEADER: True})
    with broker.changed:
        assert broker.changed.wait_for(lambda: broker.dead_letters.get("in"), 20)
    with pytest.raises(RecipeError, match="zwrap's own and no target"):
        transport.send("dlq.in", {}, headers={RECIPE_HEADER: True})
    transport.disconnect()
    assert "node 2, key 'queue' is 'zwrap.verdict'" in broker.dead_letters["in"][0].reason
    assert seen == []


def test_a_connection_whose_code_fails_is_no_longer_connected(
    broker: MemoryBroker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def receive(self: object, timeout_s: float) -> None:
        raise KeyError("bug")

    monkeypatch.setattr(MemoryTransport, "receive", receive)
    transport = SpoolTransport()
    transport.connect()
    transport.subscribe("in", lambda *_: None)
    assert transport._receiver
    transport._receiver.join(20)
    assert not transport.is_connected()
    assert "No more messages are received" in caplog.text
    transport.disconnect()


def test_a_program_hears_broadcasts_and_sends_a_status(broker: MemoryBroker) -> None:
    heard: list[Any] = []
    done = threading.Event()
    transport = SpoolTransport()
    transport.connect()
    transport.subscribe_broadcast(
        "transient.status", lambda header, message: (heard.append(message), done.set())
    )
    transport.broadcast_status({"host": "here"})
    assert done.wait(20)
    transport.disconnect()
    assert heard == [{"host": "here"}]


def test_a_connection_that_cannot_be_made_is_told_as_upstream_tells_it(
    broker: MemoryBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    from zwrap.errors import TransportError

    def away(*_: Any) -> None:
        raise TransportError("No broker at nowhere.")

    monkeypatch.setattr(site_transport, "connect", away)
    with pytest.raises(workflows.Disconnected, match="No broker at nowhere"):
        SpoolTransport().connect()


@pytest.mark.parametrize("kind", [argparse.ArgumentParser, optparse.OptionParser])
def test_options_of_a_command_line_reach_the_connection(
    kind: Any, broker: MemoryBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Any] = []

    def connected(configuration: Configuration, choice: Any) -> MemoryTransport:
        given.append((configuration, choice))
        return MemoryTransport(broker)

    monkeypatch.setattr(site_transport, "connect", connected)
    parser = kind()
    transports.add_command_line_options(parser, transport_argument=True)
    line = ["-t", "PikaTransport", "--rabbit-host", "rabbit.site.org", "--rabbit-user", "me"]
    parsed = parser.parse_args(line)
    options = parsed[0] if isinstance(parsed, tuple) else parsed
    PikaTransport.defaults["--rabbit-host"] = "other"
    PikaTransport.defaults["--rabbit-port"] = 5
    transports.lookup(options.transport)().connect()
    [(configuration, choice)] = given
    assert configuration is site.site()
    assert choice.name == "PikaTransport"
    assert choice.broker == BrokerOptions(host="rabbit.site.org", username="me", port="5")
    assert kind().parse_args([]) is not None


def test_a_program_may_read_the_settings_of_its_broker_from_a_file(
    broker: MemoryBroker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given: list[Any] = []

    def connected(configuration: Configuration, choice: Any) -> MemoryTransport:
        given.append(choice.broker)
        return MemoryTransport(broker)

    monkeypatch.setattr(site_transport, "connect", connected)
    monkeypatch.setattr(StompTransport, "defaults", {})
    file = tmp_path / "credentials"
    file.write_text("[rabbit]\nhost = mq.site.org\npassword = p%s#1\n")
    PikaTransport.defaults["--rabbit-host"] = "other"
    PikaTransport.defaults["--rabbit-vhost"] = "site"
    transport = PikaTransport()
    transport.load_configuration_file(file)
    transport.connect()
    assert given == [BrokerOptions(host="mq.site.org", password="p%s#1", vhost="site")]
    with pytest.raises(workflows.Error, match=rf"{file} has no section \[stomp\]"):
        StompTransport.load_configuration_file(str(file))
    with pytest.raises(workflows.Error, match="gone cannot be read"):
        StompTransport.load_configuration_file(tmp_path / "gone")
    file.write_text("[stomp]\nprefix: zocalo\nport: 61613\n")
    StompTransport.load_configuration_file(file)
    assert StompTransport.defaults == {"--stomp-prfx": "zocalo", "--stomp-port": "61613"}


def test_the_default_transport_is_that_of_the_site_unless_a_program_sets_it(
    broker: MemoryBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert transports.default_transport == "SpoolTransport"
    assert transports.lookup(None) is transports.lookup("unknown") is SpoolTransport
    text = "version: 1\nenvironments: {default: [t]}\nt: {plugin: transport, default: %s}\n"
    site.use(Configuration.from_string(text % "PikaTransport").activate())
    assert transports.lookup(None) is PikaTransport
    site.use(Configuration.from_string(text % "SiteOwn").activate())
    own = transports.lookup(None)
    assert issubclass(own, SiteTransport)
    assert own.name == "SiteOwn"
    monkeypatch.setattr(transports, "default_transport", "OfflineTransport", raising=False)
    assert transports.lookup(None) is OfflineTransport


@pytest.mark.parametrize(
    "module",
    [
        "recipe.recipe", "recipe.validate", "recipe.wrapper", "services.common_service",
        "transport.common_transport", "transport.middleware", "transport.pika_transport", "util",
    ],
)  # fmt: skip
def test_modules_that_python_workflows_imports_itself_are_attributes(module: str) -> None:
    """A service that imports `workflows.recipe` alone may name `workflows.recipe.wrapper`."""
    program = f"from zwrap.compat import workflows; print(workflows.{module}.__name__)"
    done = subprocess.run(
        [sys.executable, "-P", "-c", program], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == f"zwrap.compat.workflows.{module}", done.stderr
