"""The house itself: what the wheel holds, who imports whom, and which names stay."""

from __future__ import annotations

import ast
import importlib.metadata
import inspect
import pkgutil
import re
import subprocess
import sys
import tomllib
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import grimp
import pytest
import yaml
import zwrap_schedulers
import zwrap_templates

import zwrap
from zwrap.attempt.directory import ENVELOPE, SUBMISSION
from zwrap.attempt.verdict import CLAIM, VERDICT
from zwrap.configuration.clusters import policy_of
from zwrap.configuration.site import Configuration
from zwrap.plugins.registry import CONFIGURATION, INSIDE, OWN, find
from zwrap.program.reading import parse_definition
from zwrap.workers.consumers import settings as consumers

from ..conftest import SELECTED_BY

ROOT = Path(__file__).parents[2]
PLACES = {"zwrap": "zwrap", "schedulers": "zwrap_schedulers", "templates": "zwrap_templates"}
"""Folder of the project to the package as which it is installed."""


def files_of(folder: str) -> list[Path]:
    """Return every file of a folder of the project that belongs to it."""
    return [
        file
        for file in (ROOT / folder).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    ]


MODULES = [file for folder in PLACES for file in files_of(folder) if file.suffix == ".py"]


# -- the wheel ---------------------------------------------------------------------------------


def test_the_wheel_holds_the_files_of_the_three_folders_and_no_others() -> None:
    wheel = importlib.metadata.distribution("zwrap")
    installed = {
        str(file)
        for file in wheel.files or []
        if file.suffix != ".pyc" and ".dist-info" not in file.parts[0] and file.parts[0] != ".."
    }
    kept = {
        str(package / file.relative_to(ROOT / folder))
        for folder, package in ((folder, Path(package)) for folder, package in PLACES.items())
        for file in files_of(folder)
    }
    assert installed == kept


def test_each_package_is_typed() -> None:
    for package in (zwrap, zwrap_schedulers, zwrap_templates):
        assert Path(str(package.__file__)).with_name("py.typed").exists()


def test_every_door_leads_somewhere() -> None:
    entries = importlib.metadata.distribution("zwrap").entry_points
    assert {entry.group for entry in entries} > {"console_scripts", "zwrap.schedulers"}
    for entry in entries:
        found = entry.load()
        if entry.group == "zwrap.schedulers.inside":
            assert inspect.ismodule(found), entry
        else:
            assert callable(found), entry


def test_every_part_of_the_table_is_there() -> None:
    for group, parts in OWN.items():
        for name in parts:
            found = find(group, name)
            if group == CONFIGURATION:
                assert callable(found.activate), name
            else:
                assert inspect.ismodule(found) if group == INSIDE else callable(found), name


# -- imports -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    """Return imports between modules, those in functions, too, but not those for type checkers."""
    return grimp.build_graph(
        "zwrap", "zwrap_schedulers", exclude_type_checking_imports=True, cache_dir=None
    )


def loaded_by(graph: grimp.ImportGraph, module: str) -> set[str]:
    """Return what else is executed when a module is: what it imports, and all parents of that."""
    imported = {module, *graph.find_modules_directly_imported_by(module)}
    parents = {
        name.rsplit(".", level)[0] for name in imported for level in range(name.count(".") + 1)
    }
    return parents - {module}


def test_no_imports_go_round_in_a_circle(graph: grimp.ImportGraph) -> None:
    circle: list[str] = []
    try:
        TopologicalSorter({module: loaded_by(graph, module) for module in graph.modules}).prepare()
    except CycleError as error:
        circle = error.args[1]
    assert not circle


@pytest.mark.parametrize("inside", ["zwrap.wrapper", "zwrap.cli.wrap"])
def test_no_module_in_a_job_reaches_the_ledger(graph: grimp.ImportGraph, inside: str) -> None:
    chain = graph.find_shortest_chain(inside, "zwrap.attempt.ledger", as_packages=True)
    assert chain is None


def test_of_an_attempt_only_the_ledger_knows_the_ledger(graph: grimp.ImportGraph) -> None:
    for name in graph.find_children("zwrap.attempt") - {"zwrap.attempt.ledger"}:
        assert graph.find_shortest_chain(name, "zwrap.attempt.ledger", as_packages=True) is None


# -- modules -----------------------------------------------------------------------------------


def test_no_module_is_longer_than_350_lines() -> None:
    long = {
        str(file.relative_to(ROOT)): lines
        for file in MODULES
        if (lines := len(file.read_text().splitlines())) > 350
    }
    assert not long


@pytest.mark.parametrize("name", [CLAIM, VERDICT, ENVELOPE, SUBMISSION])
def test_the_name_of_a_file_of_a_job_is_spelled_in_one_module(name: str) -> None:
    spelled = [
        str(file.relative_to(ROOT))
        for file in MODULES
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Constant) and node.value == name
    ]
    assert len(spelled) == 1, spelled


def is_offer(statement: ast.stmt) -> bool:
    """Tell whether a statement only says what the package offers, and where that is."""
    match statement:
        case ast.ImportFrom() | ast.Import():
            return ast.unparse(statement) in (
                "from __future__ import annotations",
                "from typing import TYPE_CHECKING",
                "from typing import Any",
                "from zwrap.plugins.offering import offer",
            )
        case ast.If(test=ast.Name(id="TYPE_CHECKING"), orelse=[]):
            return all(isinstance(inner, ast.ImportFrom) for inner in statement.body)
        case ast.Assign(value=ast.Call(func=ast.Name(id="offer"))):
            return True
        case ast.Assign(targets=[ast.Name(id="__version__" | "_OFFERED")]):
            return True
        case ast.FunctionDef(name="__getattr__" | "__dir__"):
            return True
        case ast.Expr(ast.Constant(str())):  # the docstring of a name
            return True
    return False


@pytest.mark.parametrize(
    "file",
    [file for file in MODULES if file.name == "__init__.py"],
    ids=lambda file: str(file.relative_to(ROOT).parent),
)
def test_a_package_says_what_it_is_and_only_offers_names(file: Path) -> None:
    tree = ast.parse(file.read_text())
    assert ast.get_docstring(tree)
    assert [ast.unparse(each) for each in tree.body[1:] if not is_offer(each)] == []


# -- names that stay ---------------------------------------------------------------------------

STAY = {
    "zwrap": "BaseWrapper Configuration ConfigurationError RabbitMQAPI "
    "create_parent_symlink extended_status_dictionary hash_password http_api_request __version__",
    "zwrap.configuration": "Configuration from_file from_string",
    "zwrap.configuration.logs": "DowngradeFilter GraylogTCPHandler GraylogUDPHandler",
    "zwrap.context": "RecipeIDFilter RecipeIDFormatter extended_status_dictionary recipe_context",
    "zwrap.envelope": "Envelope",
    "zwrap.errors": "ConfigurationError ZwrapError",
    "zwrap.links": "create_parent_symlink",
    "zwrap.localbatch": "main",
    "zwrap.rabbitmqapi": "BindingSpec ExchangeSpec PermissionSpec PolicySpec QueueSpec "
    "RabbitMQAPI UserSpec VHostSpec hash_password http_api_request",
    "zwrap.message": "JSON Message Outgoing",
    "zwrap.recipe": "Recipe",
    "zwrap.scheduler": "Accepted ArrayForm Busy Command DrmaaSubmission HttpRequest Options "
    "Question Rejected Reply Scheduler Submission Unknown",
    "zwrap.service": "Service Work",
    "zwrap.service.dispatcher": "Dispatcher",
    "zwrap.service.jsonlines": "JSONLines",
    "zwrap.service.loop": "handle_delivery",
    "zwrap.service.mailer": "Mailer",
    "zwrap.service.runner": "Runner",
    "zwrap.service.schlockmeister": "Schlockmeister",
    "zwrap.service.submitter": "Submitter",
    "zwrap.service.watcher": "Watcher",
    "zwrap.transport": "Delivery Transport Unit",
    "zwrap.transport.connect": "connect",
    "zwrap.transport.spool": "SpoolTransport",
    "zwrap.worker": "queue_json_publish worker",
    "zwrap.wrapper": "BaseWrapper",
    "zwrap.wrapper.base": "BaseWrapper DummyWrapper RecipeWrapper StatusNotifications",
}
"""Names that sites have been able to import, or to write into their files, since version 0.1.0."""


@pytest.mark.parametrize(
    ("module", "name"),
    [(module, name) for module, names in STAY.items() for name in names.split()],
)
def test_a_name_that_sites_import_stays(module: str, name: str) -> None:
    assert pkgutil.resolve_name(f"{module}:{name}") is not None


# -- constructors --------------------------------------------------------------------------------


CONSTRUCTED = """
import sys, threading
from pathlib import Path
import sqlite3
from zwrap.attempt.directory import JobDirectory
from zwrap.attempt.ledger.ledger import Ledger
from zwrap.transport.spool.queue import SpoolQueue
from zwrap.transport.spool.topic import SpoolTopic
from zwrap.transport.spool.transport import SpoolTransport
from zwrap.transport.spool.views import DeadLetters
place = Path(sys.argv[1])
ways = [
    lambda: SpoolTransport(place / "spool"), lambda: SpoolQueue(place / "q"),
    lambda: DeadLetters(place / "q"), lambda: SpoolTopic(place / "topic"),
    lambda: JobDirectory(place / "job"), lambda: Ledger(f"sqlite:///{place}/ledger"),
]
acts = ("open", "os.", "socket.", "sqlite3.", "subprocess.", "shutil.")
quiet = True
sys.addaudithook(lambda event, given: quiet or event.startswith(acts) and print(event, given))
for way in ways:
    quiet = False
    way()
quiet = True
print(*threading.enumerate()[1:], *place.iterdir(), sep="")
"""


def test_constructors_leave_the_outside_alone(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-c", CONSTRUCTED, str(tmp_path)],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert done.stdout.strip() == ""


PAGES = [
    *(ROOT / "docs").rglob("*.md"),
    *(ROOT / "examples").rglob("*.md"),
    ROOT / "README.md",
    *(file for file in files_of("examples") if file.suffix in (".py", ".yml", ".yaml", ".json")),
    *(ROOT / "scripts" / name for name in ("dispatcher", "schlockmeister")),
    *(ROOT / "scripts").glob("bench*.py"),
]
FROM = re.compile(r"^\s*from (zwrap[\w.]*) import (?:\(([^)]*)\)|(.+?))\s*(?:#.*)?$", re.MULTILINE)
MODULE = re.compile(r"^\s*import (zwrap[\w.]*)|\bpython3?(?: -P)? -m (zwrap[\w.]*)", re.MULTILINE)
TARGET = re.compile(r"(?<!--wrap )(?<!-s )\b(zwrap(?:_schedulers)?(?:\.\w+)*:\w+)\b")


def shown(text: str) -> set[str]:
    """Return the names of zwrap's that a page or an example imports, as MODULE or MODULE:NAME."""
    names = {
        f"{module}:{name.split(' as ')[0].strip()}"
        for module, inside, plain in FROM.findall(text)
        for name in (inside or plain).split(",")
        if name.strip()
    }
    return names | {one or other for one, other in MODULE.findall(text)} | {*TARGET.findall(text)}


def test_what_pages_and_examples_import_is_there() -> None:
    names = {(page.name, name) for page in PAGES for name in shown(page.read_text())}
    assert len(names) > 15
    for page, name in names:
        module, _, inside = name.partition(":")
        if inside:
            __import__(module, fromlist=[inside])  # which may be a module that nobody has loaded
        assert pkgutil.resolve_name(name) is not None, page


BLOCK = re.compile(r"^```yaml\n(.*?)^```", re.MULTILINE | re.DOTALL)


def read_shown(text: str) -> str:
    """Read a piece of YAML as that which it shows, and return what that is."""
    shown = yaml.safe_load(text)
    if "startup_handler" in shown:
        consumers.read(shown)
        return "consumers"
    if "retry" in shown:
        assert policy_of(shown["retry"], None, "a step") is not None
        return "retry policy"
    if any(isinstance(value, dict) and "plugin" in value for value in shown.values()):
        site = Configuration.from_string(text if "version" in shown else f"version: 1\n{text}")
        assert [line for line in site.check() if line.startswith("warning")] == []
        for name in site.environments:
            site.activate_environment(name)
        assert site.environments or "version" not in shown
        return "site file"
    parse_definition({"command": ["true"], **shown}, "a page", "shown")
    return "program definition"


def test_each_piece_of_yaml_on_a_page_is_what_zwrap_takes() -> None:
    found = [read_shown(text) for page in PAGES for text in BLOCK.findall(page.read_text())]
    assert {*found} == {"consumers", "retry policy", "site file", "program definition"}
    assert len(found) >= 9


@pytest.mark.parametrize("name", ["site", "site-slurm", "site-sge"])
def test_each_crontab_starts_all_that_jobs_need(name: str) -> None:
    lines = (ROOT / "examples" / name / "crontab").read_text()
    services = set(re.findall(r"^\* .* zocalo\.service -s (\w+)", lines, re.MULTILINE))
    assert services == {"Dispatcher", "Submitter", "Watcher"}


LINK = re.compile(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)")


def anchors(page: Path) -> set[str]:
    """Return the names under which the headings of a page are linked to, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}


def test_each_link_between_pages_leads_somewhere() -> None:
    pages = [page for page in (*PAGES, ROOT / "CHANGELOG.md") if page.suffix == ".md"]
    links = [(page, *link) for page in pages for link in LINK.findall(page.read_text())]
    assert len(links) > 30
    for page, name, anchor in links:
        target = page.parent / name if name else page
        assert target.exists(), (page, name)
        assert not anchor or anchor in anchors(target), (page, name, anchor)


ARCHITECTURE = ROOT / "docs" / "architecture.md"
QUOTED = re.compile(r"`([\w.]+(?:/[\w.*-]*)+|\w+\.(?:py|toml|md))`")


def test_each_path_of_the_page_on_the_architecture_exists() -> None:
    top = {path.name for path in ROOT.iterdir()}
    named = {path for path in QUOTED.findall(ARCHITECTURE.read_text()) if path.split("/")[0] in top}
    assert len(named) > 80
    assert {path for path in named if not list(ROOT.glob(path.rstrip("/")))} == set()


def test_the_page_on_the_architecture_has_a_row_for_each_folder() -> None:
    rows = set(re.findall(r"^\| `([\w/]+)/` \|", ARCHITECTURE.read_text(), re.MULTILINE))
    folders = {f"zwrap/{file.parent.name}" for file in (ROOT / "zwrap").glob("*/__init__.py")}
    assert folders | {"zwrap", *PLACES} <= rows


def test_the_page_on_the_architecture_has_the_layers_that_are_checked() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    checked = [layer.split(" | ") for layer in settings["contracts"][0]["layers"]]
    table = ARCHITECTURE.read_text().partition("### Layers")[2].partition("Batch systems")[0]
    rows = re.findall(r"^\| [^|]+ \| (.*) \|$", table, re.MULTILINE)
    assert re.findall(r"`(\w+)`", " ".join(rows)) == [name for layer in checked for name in layer]


# -- the suite ---------------------------------------------------------------------------------


def test_no_test_is_selected_by_a_word_that_says_none(pytestconfig: pytest.Config) -> None:
    # `-k nothing` is how one makes everything ready without running a test; -k looks for parts of
    # names and of parameters' ids.
    words = pytestconfig.stash[SELECTED_BY]
    assert "test_no_test_is_selected_by_a_word_that_says_none" in words
    assert [word for word in words if "nothing" in word] == []
