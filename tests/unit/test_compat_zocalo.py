"""`zwrap.compat.zocalo`: each public name of python-zocalo, and the answers of those there are."""

from __future__ import annotations

import importlib
import logging
import optparse
import re
import subprocess
import sys
import types
import typing
from argparse import ArgumentParser
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest

import zwrap
from zwrap.compat.zocalo import configuration
from zwrap.compat.zocalo.cli import dlq_check
from zwrap.compat.zocalo.configuration.argparse import get_specified_environments
from zwrap.compat.zocalo.service.dispatcher import Dispatcher
from zwrap.compat.zocalo.util import responses
from zwrap.compat.zocalo.util.jmxstats import JMXAPI
from zwrap.compat.zocalo.util.symlink import symlink_to
from zwrap.configuration.site import Configuration
from zwrap.errors import ConfigurationError, MessageError, TransportError, UnknownNameError

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "compat-zocalo.md").read_text()
ROWS: dict[str, str] = dict(re.findall(r"^\| `(zocalo[\w.*]+)` \| (.+) \|$", PAGE, re.MULTILINE))
RECORDED = [
    line
    for line in (ROOT / "tests" / "data" / "upstream" / "zocalo-names.txt").read_text().split("\n")
    if line and not line.startswith("#")
]
"""Modules, names and members of python-zocalo."""


def exists(module: str) -> bool:
    try:
        importlib.import_module(f"zwrap.compat.{module}")
    except ModuleNotFoundError:
        return False
    return True


def home(name: str) -> tuple[str, list[str]]:
    """Return the module of a recorded name, and what follows it."""
    parts = name.split(".")
    modules = [size for size in range(1, len(parts) + 1) if ".".join(parts[:size]) in MODULES]
    return ".".join(parts[: max(modules)]), parts[max(modules) :]


MODULES = {
    name
    for name in RECORDED
    if name == "zocalo"
    or (name.rpartition(".")[2].islower() and any(f"{name}." in each for each in RECORDED))
}


def row(name: str) -> str:
    """Return what the page says of a name."""
    module, rest = home(name)
    return ROWS.get(f"{module}.{rest[0]}") or ROWS.get(f"{module}.*") or ""


@pytest.fixture(autouse=True)
def marshmallow(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """Stand in for a package that zwrap needs only where a site's plugin uses it."""
    fake: Any = types.ModuleType("marshmallow")
    fake.Schema = type("Schema", (), {})
    fake.fields = types.SimpleNamespace(String=lambda required: f"required: {required}")
    monkeypatch.setitem(sys.modules, "marshmallow", fake)
    monkeypatch.delitem(sys.modules, SCHEMA, raising=False)
    return fake


SCHEMA = "zwrap.compat.zocalo.configuration.schema"
NAMES = [name for name in RECORDED if len(home(name)[1]) == 1]
MEMBERS = [name for name in RECORDED if len(home(name)[1]) > 1]


def test_the_lists_are_read() -> None:
    assert len(RECORDED) > 700
    assert len(ROWS) > 70
    assert len(NAMES) > 390
    assert len(MEMBERS) > 300
    assert {"zocalo.util.slurm", "zocalo.cli.go", "zocalo.wrapper"} <= MODULES


@pytest.mark.parametrize("module", sorted(MODULES))
def test_the_page_says_of_each_name_what_became_of_it(module: str) -> None:
    for name in NAMES:
        place, [own] = home(name)
        if place != module:
            continue
        told = row(name)
        assert told, f"the page says nothing of {name}"
        if not told.startswith("none:"):
            assert getattr(importlib.import_module(f"zwrap.compat.{module}"), own)
        elif exists(module):
            with pytest.raises((ImportError, AttributeError)):
                getattr(importlib.import_module(f"zwrap.compat.{module}"), own)


def test_each_member_of_a_class_is_there_or_named_as_absent() -> None:
    for name in MEMBERS:
        told = row(name)
        if told.startswith("none:") or name.endswith(".model_config"):
            continue
        module, [own, member] = home(name)
        kind = getattr(importlib.import_module(f"zwrap.compat.{module}"), own)
        there = hasattr(kind, member) or member in typing.get_type_hints(kind)
        _, without, listed = told.rpartition("ithout `")
        absent = re.findall(r"(\w+)`", listed) if without else []
        assert there != (member in absent), name


def test_the_page_names_nobody_that_is_not_there() -> None:
    for name in ROWS:
        assert name.removesuffix(".*") in RECORDED


def test_what_is_not_carried_out_says_what_there_is_instead() -> None:
    with pytest.raises(
        ImportError, match=r"has no start_service: the program is `zocalo\.service`"
    ):
        exec("from zwrap.compat.zocalo.service import start_service")
    with pytest.raises(ImportError, match="310 classes of python-zocalo are one, Record"):
        exec("from zwrap.compat.zocalo.util.slurm.models import Node")
    with pytest.raises(ImportError, match=r"zwrap registers plugin 'logging' itself"):
        exec("from zwrap.compat.zocalo.configuration.plugin_logging import Logging")


def test_the_version_is_that_of_zwrap() -> None:
    assert importlib.import_module("zwrap.compat.zocalo").__version__ == zwrap.__version__


# -- the rule of the page ----------------------------------------------------------------------


OLD = """\
from zocalo.util.symlink import symlink_to
    import zocalo.configuration
import zocalo.util.rabbitmq as rabbitmq
import zocalo_dls
from zocalonet import x
import zocalo
"""
NEW = """\
from zwrap.compat.zocalo.util.symlink import symlink_to
    import zwrap.compat.zocalo.configuration; from zwrap.compat import zocalo
import zwrap.compat.zocalo.util.rabbitmq as rabbitmq
import zocalo_dls
from zocalonet import x
import zwrap.compat.zocalo; from zwrap.compat import zocalo
"""


def test_the_rule_for_imports_is_what_sed_does(tmp_path: Path) -> None:
    command = PAGE.partition("```sh\n")[2].partition("```")[0]
    (tmp_path / "FILE.py").write_text(OLD)
    subprocess.run(["bash", "-c", command], cwd=tmp_path, check=True)
    assert (tmp_path / "FILE.py").read_text() == NEW


@pytest.fixture
def conformance(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the module that runs the tests of python-zocalo."""
    monkeypatch.syspath_prepend(ROOT / "scripts")
    return importlib.import_module("conformances.upstream")


def test_the_tests_of_upstream_are_changed_by_the_same_rule(conformance: Any) -> None:
    assert conformance.changed(OLD) == NEW
    patched = '@mock.patch("zocalo.cli.dlq_check.JMXAPI")'
    assert conformance.changed(patched) == patched.replace("zocalo", "zwrap.compat.zocalo")
    text = 'say("zocalo.go")'
    assert conformance.changed(text) == text


def test_the_pages_tell_how_many_tests_of_upstream_hold(conformance: Any) -> None:
    table = conformance.recorded()
    name_of_test = r"(zocalo|workflows)/(\w+/)*test\w*\.py(::\w+)+(\[.*\])?"
    assert [name for name in table if not re.fullmatch(name_of_test, name)] == []
    held, all_tests = Counter[str](), Counter[str]()
    for name, verdict in table.items():
        assert verdict == conformance.HOLDS or verdict.endswith((".", "absent"))
        held[name.partition("/")[0]] += verdict == conformance.HOLDS
        all_tests[name.partition("/")[0]] += 1
    zocalo, workflows = (f"{held[each]} of {all_tests[each]}" for each in ("zocalo", "workflows"))
    number = all_tests.total()
    assert f"\n{zocalo}; {all_tests['zocalo'] - held['zocalo']} do not." in PAGE
    assert f"packages {held.total()} of {number} hold ({zocalo}, and {workflows});" in PAGE
    assert f"the other {number - held.total()} do not" in PAGE
    told = f"its {all_tests['workflows']} tests with only their imports changed; {{}} hold."
    other_page = (ROOT / "docs" / "compat-workflows.md").read_text()
    assert told.format(held["workflows"]) in other_page


def test_each_test_of_upstream_is_compared_with_the_table(
    conformance: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table = {"zocalo/a.py::test_good": "holds", "zocalo/a.py::test_bad": "Why.",
             "zocalo/a.py::test_now": "Why.", "zocalo/a.py::test_lost": "holds",
             "zocalo/a.py::test_gone": "holds", "workflows/a.py::test_other": "holds"}  # fmt: skip
    monkeypatch.setattr(conformance, "recorded", lambda: table)
    found = {f"zocalo/a.py::test_{name}": fault for name, fault in
             (("good", ""), ("bad", "E"), ("now", ""), ("lost", "E"), ("new", ""))}  # fmt: skip
    assert conformance.report(found) == ["zocalo/a.py::test_lost", "zocalo/a.py::test_new"]
    assert capsys.readouterr().out.splitlines() == [
        "zocalo/a.py::test_good  holds",
        "zocalo/a.py::test_bad  does not: Why.",
        "zocalo/a.py::test_now  holds, and is listed as one that does not",
        "zocalo/a.py::test_lost  DOES NOT HOLD, and is listed as one that does: E",
        "zocalo/a.py::test_new  IS NOT LISTED, and holds",
        f"5 tests: 2 hold, 1 {conformance.EXPLAINED}, 1 {conformance.BROKEN}, 1 ARE NOT LISTED",
    ]
    assert conformance.gone(found, "zocalo") == ["zocalo/a.py::test_gone"]


def test_python_zocalo_is_not_fetched_where_a_checkout_is_given(
    conformance: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for part in ("src/zocalo", "tests"):
        (tmp_path / part).mkdir(parents=True)
    ran: list[Path] = []
    monkeypatch.setattr(conformance, "fetched", None)
    monkeypatch.setattr(conformance, "outcomes", lambda source, *_: ran.append(source) or {})
    assert conformance.tests([tmp_path], tmp_path, ["all"]) == []
    assert ran == [tmp_path]


def test_a_test_without_a_result_is_told(conformance: Any, tmp_path: Path) -> None:
    (tmp_path / "util").mkdir()
    (tmp_path / "util" / "test_a.py").write_text(
        "def test_one():\n    def test_inner(): ...\n\nclass TestIt:\n    def test_two(self): ...\n"
    )
    found = {"zocalo/util/test_a.py::test_one[x-::]": "", "zocalo/util/test_b.py::test_c": "no"}
    missing = ["zocalo/util/test_a.py::test_two"]
    assert conformance.without_result(tmp_path, "zocalo", found) == missing
    found["zocalo/util/test_a.py::TestIt::test_two"] = ""
    assert conformance.without_result(tmp_path, "zocalo", found) == []


def test_a_new_name_of_python_workflows_is_told(conformance: Any, tmp_path: Path) -> None:
    package = tmp_path / "src" / "workflows"
    (package / "recipe").mkdir(parents=True)
    (package / "__init__.py").write_text("class Error(Exception): ...\n")
    (package / "recipe" / "recipe.py").write_text(
        "logger = 1\nclass Recipe:\n    def merge(self): ...\n    def split(self): ...\n"
    )
    assert conformance.unknown_names(tmp_path, "workflows") == [
        "workflows.recipe.recipe.Recipe.split"
    ]


def test_public_names_are_found_in_the_source(conformance: Any, tmp_path: Path) -> None:
    package = tmp_path / "src" / "zocalo"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(
        "class A:\n  b = 1\n  def _c(self): ...\n_d: int = 1\ne: int\n"
    )
    assert list(conformance.public_names(tmp_path, "zocalo")) == [
        "zocalo", "zocalo.A", "zocalo.A.b", "zocalo.e"
    ]  # fmt: skip
    assert conformance.unknown_names(tmp_path, "zocalo") == ["zocalo.A", "zocalo.A.b", "zocalo.e"]


# -- configuration -----------------------------------------------------------------------------

SITE = """
version: 1
constants: {plugin: storage, a: 1}
mail: {plugin: smtp, host: here, port: 25}
environments: {default: live, live: [constants], test: [mail]}
"""


def test_activation_answers_with_the_environments(monkeypatch: pytest.MonkeyPatch) -> None:
    zc = configuration.from_string(SITE)
    assert zc.activate_environment("live") is None
    assert zc.activate(["test", "default"]) == ("test", "default")
    assert zc.active_environments == ("live", "test", "default")
    assert configuration.from_string(SITE).activate([], default=False) == ()
    monkeypatch.setenv("ZOCALO_DEFAULT_ENV", "test")
    assert configuration.from_string(SITE).activate([]) == ("test",)


def test_without_names_the_command_line_selects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["program", "--other", "x", "-e", "test"])
    assert configuration.from_string(SITE).activate() == ("test",)
    monkeypatch.setattr(sys, "argv", ["program", "-e"])
    assert configuration.from_string(SITE).activate() == ("default",)
    assert get_specified_environments(["-e", "a", "x", "--environment=b", "-z"]) == ["a", "b"]
    assert get_specified_environments(["-s", "c"], arguments=("-s",)) == ["c"]


def test_the_option_is_added_to_parsers_of_both_libraries(
    capsys: pytest.CaptureFixture[str],
) -> None:
    zc = Configuration.from_string(SITE)
    new, old = ArgumentParser(), optparse.OptionParser()
    zc.add_command_line_options(new)
    zc.add_command_line_options(old)
    assert new.parse_args(["-e", "live", "--environment", "test"]).environment == ["live", "test"]
    assert new.parse_args([]).environment == []
    assert old.parse_args(["-e", "live"])[0].environment == ["live"]
    for parser in (new, old):
        with pytest.raises(SystemExit):
            parser.parse_args(["-e", "gone"])
    assert capsys.readouterr().err.count("invalid choice: 'gone'") == 2


def test_an_unknown_environment_has_every_type_that_code_expects() -> None:
    zc = configuration.from_string(SITE)
    for kind in (ConfigurationError, ValueError, UnknownNameError):
        with pytest.raises(kind, match="Unknown environment 'gone'"):
            zc.activate(["gone"])
    with pytest.raises(ConfigurationError, match="Unknown section 'gone'"):
        configuration.from_string("version: 1\nenvironments: {a: [gone]}")
    with pytest.raises(ConfigurationError, match=r"alias of itself.*circular"):
        configuration.from_string("version: 1\nenvironments: {a: b, b: a}")


def test_a_plugin_that_is_not_installed_is_no_attribute(caplog: pytest.LogCaptureFixture) -> None:
    zc = configuration.from_string("version: 1\nodd: {plugin: another}")
    assert "plugin 'another' is not installed" in caplog.text
    assert zc.storage is None, "one that is installed and not active is None"
    with pytest.raises(AttributeError, match="nor a plugin that is installed here"):
        _ = zc.another


def test_sections_are_checked_when_the_file_is_read(tmp_path: Path) -> None:
    wrong = SITE.replace("port: 25", "port: banana")
    with pytest.raises(ConfigurationError, match=r"line 4, key 'mail.port'.*whole number"):
        configuration.from_string(wrong)
    (tmp_path / "site.yml").write_text(wrong)
    with pytest.raises(ConfigurationError, match=r"site\.yml, line 4"):
        configuration.from_file(tmp_path / "site.yml")
    assert Configuration.from_string(wrong).environments, "zwrap's own does not look before its use"
    configuration.from_string(
        "version: 1\nlog: {plugin: logging, verbose: x}\nlater: /not/there.yml"
    )


def test_a_file_that_is_not_there_is_also_an_error_of_the_system(tmp_path: Path) -> None:
    for kind in (ConfigurationError, FileNotFoundError):
        with pytest.raises(kind, match=r"key 'include': the file .*gone\.yml cannot be read"):
            configuration.from_string(f"version: 1\ninclude: [{tmp_path}/gone.yml]")
        zc = configuration.from_string(f"version: 1\na: {tmp_path}/b\nenvironments: {{x: [a]}}")
        with pytest.raises(kind, match=r"refers to a file: .*/b cannot be read"):
            zc.activate(["x"])
    with pytest.raises(
        ConfigurationError, match=r"Invalid configuration: .*: 'version: 1' is missing"
    ) as caught:
        configuration.from_string("a: 1")
    assert not isinstance(caught.value, OSError)


def test_files_that_are_not_read_yet_are_counted(tmp_path: Path) -> None:
    (tmp_path / "more.yml").write_text("plugin: storage\nb: 2\n")
    zc = configuration.from_string(
        f"version: 1\nmore: {tmp_path}/more.yml\nenvironments: {{x: [more]}}"
    )
    assert "(1 of its sections in files not read yet): 1 environments, 1 plugin" in str(zc)
    zc.activate(["x"])
    assert "1 of" not in str(zc)
    assert zc.storage == {"b": 2}


def test_the_schema_of_plugins_is_that_of_marshmallow(marshmallow: types.ModuleType) -> None:
    assert issubclass(configuration.PluginSchema, marshmallow.Schema)
    assert configuration.PluginSchema.plugin == "required: True"


# -- the other modules -------------------------------------------------------------------------


def test_links_are_made_and_replaced_only_on_request(tmp_path: Path) -> None:
    link = tmp_path / "link"
    assert symlink_to(Path("a"), link, target_is_directory=True)
    assert not symlink_to(Path("b"), link)
    assert symlink_to(Path("b"), link, overwrite_symlink=True)
    assert link.readlink() == Path("b")


def test_an_error_is_also_one_of_requests_where_that_is_loaded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "requests", None)
    error = responses.refused("No.", httpx.Response(404))
    assert isinstance(error, MessageError)
    fake = types.SimpleNamespace(
        HTTPError=type("HTTPError", (OSError,), {}),
        ConnectionError=type("ConnectionError", (OSError,), {}),
    )
    monkeypatch.setitem(sys.modules, "requests", fake)
    error = responses.refused("No.", httpx.Response(404))
    assert isinstance(error, MessageError)
    assert isinstance(error, fake.HTTPError)
    assert error.response.status_code == 404
    assert str(error) == "No."
    assert isinstance(responses.unreachable("Away."), (TransportError, fake.ConnectionError))


def test_a_service_that_would_never_be_called_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"replaces initializing, process of a service"):
        type("Own", (Dispatcher,), {"initializing": None, "process": None})
    assert type("Named", (Dispatcher,), {}).queue == "processing_recipe"


JMX = """
version: 1
jmx: {plugin: jmx, host: mq, port: 8161, base_url: api/jolokia, username: u, password: p, more: 1}
environments: {default: [jmx]}
"""


def test_activemq_is_asked_by_names_of_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    answer: dict[str, Any] = {
        "status": 200,
        "value": {"org.apache.activemq:destinationName=DLQ.zocalo.a,type=Broker": {"QueueSize": 3}},
    }

    def get(url: str, **how: object) -> httpx.Response:
        asked.append(url)
        assert how["auth"] == ("u", "p")
        return httpx.Response(200, json=answer, request=httpx.Request("GET", url))

    monkeypatch.setattr(httpx, "get", get)
    zc = Configuration.from_string(JMX).activate()
    assert JMXAPI(zc).java.lang(type="Memory") == answer
    assert JMXAPI(zc).org.apache.activemq("Uptime", type="Broker", brokerName="b") == answer
    assert dlq_check.check_dlq(zc, "zocalo") == {"DLQ.zocalo.a": 3}
    place = "http://mq:8161/api/jolokia/read/"
    queues = "destinationType=Queue,destinationName=DLQ.zocalo.*"
    assert asked == [
        f"{place}java.lang:type=Memory",
        f"{place}org.apache.activemq:type=Broker,brokerName=b/Uptime",
        f"{place}org.apache.activemq:type=Broker,brokerName=localhost,{queues}/QueueSize",
    ]
    answer.update(status=403, error="not allowed")
    with pytest.raises(TransportError, match="does not count dead letters: not allowed"):
        dlq_check.check_dlq(zc, "zocalo")
    with pytest.raises(ConfigurationError, match="no JMX credentials"):
        JMXAPI(Configuration())


def test_dead_letters_of_rabbitmq_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    queues = [
        {"name": name, "vhost": vhost, "messages": number}
        for name, vhost, number in [
            ("dlq.a", "zocalo", 2), ("a", "zocalo", 5), ("dlq.b", "far", 1), ("dlq.c", "zocalo", 0)
        ]
    ]  # fmt: skip

    def send(client: httpx.Client, method: str, url: str, **how: object) -> httpx.Response:
        content = queues if url.endswith("/queues") else {"status": "ok"}
        return httpx.Response(200, json=content, request=httpx.Request(method, url))

    monkeypatch.setattr(httpx.Client, "request", send)
    zc = types.SimpleNamespace(
        rabbitmqapi={"base_url": "http://r/api", "username": "u", "password": "p"}
    )
    assert dlq_check.check_dlq_rabbitmq(zc) == {"dlq.a": 2, "dlq.b": 1}
    assert dlq_check.check_dlq_rabbitmq(zc, "zocalo") == {"dlq.a": 2}


def test_logging_is_left_alone_by_imports() -> None:
    importlib.import_module("zwrap.compat.zocalo.configuration.plugin_logging")
    assert logging.getLogger("zwrap.compat").handlers == []


def test_modules_that_python_zocalo_imports_itself_are_attributes() -> None:
    """A tool that imports `zocalo.util.jmxstats` alone may name `zocalo.configuration.argparse`."""
    program = (
        "import zwrap.compat.zocalo.util.jmxstats; from zwrap.compat import zocalo; "
        "print(zocalo.configuration.argparse.__name__, zocalo.util.__name__)"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", program], capture_output=True, text=True, check=False
    )
    expected = "zwrap.compat.zocalo.configuration.argparse zwrap.compat.zocalo.util"
    assert done.stdout.strip() == expected, done.stderr
