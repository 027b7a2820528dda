"""Modules that commands load: a job starts fast as it loads those that its step needs only."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from zwrap.plugins.registry import OWN
from zwrap.program.definition import Definition

COMMAND = """
import sys
from zwrap.cli import {name}
status = {name}.main(sys.argv[1:])
places = {{module: str(getattr(sys.modules[module], "__file__", None)) for module in sys.modules}}
places["uses json"] = str("json" in sys.modules)
print(chr(10), __import__("json").dumps([status, places]))
"""

LEDGER = ("sqlalchemy", "sqlite3", "psycopg", "alembic", "zwrap.attempt.ledger")
FAR = ("httpcore", "httpx", "pika", "stomp", "zwrap.transport.rabbitmq", "zwrap.transport.stomp")
"""Transports other than the spool, and what asks over HTTP."""
SUBMITS = ("jinja2", "drmaa", "zwrap.submission", "zwrap.calls.ask", "zwrap.pool")
"""Modules that only those need who submit jobs, or ask about them."""
SHOWS = ("rich", "pygments")
HEAVY = (
    "asyncio",
    "email",
    "http",
    "importlib.metadata",
    "ssl",
    "xml",
    "multiprocessing",
    "psutil",
)
"""Of the standard library, and beside it, what takes longer to load than a short job may wait."""

LATER = ("_hashlib", "pkgutil", "shutil")
"""Modules that take milliseconds to load, and that only some jobs or messages need."""

OUTSIDE = tuple({target.partition(":")[0] for target in OWN["zwrap.schedulers"].values()})
"""The half of each batch system that only the submit host uses."""


def loaded(
    directory: Path, name: str, *arguments: str, environment: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Run a command of zwrap's as a process of its own; where each module it loaded lies."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", COMMAND.format(name=name), *arguments],
        env={"PATH": "/usr/bin:/bin", "ZWRAP_SPOOL": str(directory / "spool"),
             "ZWRAP_STATE": str(directory / "state"), **(environment or {})},
        cwd=directory, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    status, places = json.loads(done.stdout.splitlines()[-1])
    assert status == 0, done.stderr
    return dict(places)


def among(modules: Mapping[str, str], *names: str) -> list[str]:
    """Return those modules that are, or lie in, packages of these names."""
    return sorted(
        module for module in modules if f"{module}.".startswith(tuple(f"{n}." for n in names))
    )


def of_others(modules: Mapping[str, str]) -> set[str]:
    """Return the packages that are neither ours nor of the standard library."""
    installed = {name.partition(".")[0] for name, place in modules.items() if "-packages" in place}
    return installed - {"zwrap", "zwrap_schedulers", "zwrap_templates"}


@pytest.fixture
def step(tmp_path: Path) -> Path:
    """Write a recipe step, as it is handed to a job."""
    return written(tmp_path, {"job_parameters": {"command": ["true"]}})


def written(directory: Path, step: Mapping[str, Any]) -> Path:
    recipe = {"start": [[1, []]], "1": {"queue": "cluster.submission", "output": {}, **step}}
    envelope = {"recipe": recipe, "recipe-pointer": 1, "recipe-path": [], "payload": [],
                "environment": {"ID": "r"}}  # fmt: skip
    file = directory / ".recipewrap"
    file.write_text(json.dumps(envelope))
    return file


def test_a_job_without_site_file_loads_little(tmp_path: Path, step: Path) -> None:
    modules = loaded(tmp_path, "wrap", "--wrap", "command", "--recipewrapper", str(step))
    # msgspec loads typing_extensions by itself, setuptools its hack in every process.
    assert of_others(modules) <= {"msgspec", "typing_extensions", "_distutils_hack"}
    assert among(modules, "yaml", *LEDGER, *FAR, *SUBMITS, *SHOWS, *HEAVY, *LATER) == []
    assert among(modules, *OUTSIDE, "zwrap.service", "zwrap.monitor", "zwrap.workers") == []
    assert among(modules, "zwrap.program.parsers") in (
        [], ["zwrap.program.parsers", "zwrap.program.parsers.table"],
    )  # fmt: skip


def test_neither_does_an_idle_wrapper_of_a_site(tmp_path: Path, step: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from zwrap.wrapper import BaseWrapper\n"
        "class Mine(BaseWrapper):\n    def run(self):\n        return True\n"
    )
    installed = tmp_path / "mine-1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (installed / "entry_points.txt").write_text("[zocalo.wrappers]\nmine = mine:Mine\n")
    modules = loaded(
        tmp_path, "wrap", "--wrap", "mine", "--recipewrapper", str(step),
        environment={"PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert "mine" in modules
    assert among(modules, "yaml", *LEDGER, *FAR, *SUBMITS, *SHOWS, *OUTSIDE) == []


@pytest.mark.parametrize(
    "variables",
    [{"SLURM_JOB_ID": "7"}, {"JOB_ID": "7", "SGE_TASK_ID": "undefined", "SGE_CELL": "c"},
     {"ZWRAP_LOCAL_JOB_ID": "7"}],
    ids=["slurm", "sge", "local"],
)  # fmt: skip
def test_in_a_batch_job_no_outside_half_is_loaded(
    tmp_path: Path, step: Path, variables: dict[str, str]
) -> None:
    arguments = ("--wrap", "command", "--recipewrapper", str(step))
    modules = loaded(tmp_path, "wrap", *arguments, environment=variables)
    assert among(modules, *OUTSIDE, "yaml", *LEDGER, *FAR, *SUBMITS, *SHOWS, *HEAVY) == []


def test_of_the_parsers_only_those_are_loaded_that_the_definition_names(tmp_path: Path) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "mine.yaml").write_text(
        "command: [sh, -c, 'echo 1 > out.json']\noutputs: {found: {file: out.json, parser: json}}\n"
        "inputs: {d_min: {type: number, default: 2}}\n"
        "write: [{file: in.json, format: json, values: {d_min: '{d_min}'}}]\n"
    )
    (tmp_path / "site.yml").write_text(
        "version: 1\nenvironments: {default: [s]}\n"
        f"s: {{plugin: storage, zwrap.program_directory: {programs}}}\n"
    )
    step = written(tmp_path, {})
    modules = loaded(
        tmp_path, "wrap", "--wrap", "mine", "--recipewrapper", str(step),
        environment={"ZOCALO_CONFIG": str(tmp_path / "site.yml")},
    )  # fmt: skip
    assert among(modules, "zwrap.program.parsers") == [
        "zwrap.program.parsers", "zwrap.program.parsers.generic", "zwrap.program.parsers.table",
    ]  # fmt: skip
    assert among(modules, *OUTSIDE, *LEDGER, *FAR, *SUBMITS, *SHOWS, *HEAVY) == []


TRANSPORT = """
import json, sys
from zwrap.transport.connect import transport_class
transport_class(sys.argv[1])
print(json.dumps(dict.fromkeys(sys.modules, "")))
"""


@pytest.mark.parametrize(
    ("name", "own"),
    [("PikaTransport", {"pika", "zwrap.transport.rabbitmq"}),
     ("StompTransport", {"stomp", "zwrap.transport.stomp"}),
     ("SpoolTransport", {"zwrap.transport.spool"})],
)  # fmt: skip
def test_a_transport_loads_no_other(name: str, own: set[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-c", TRANSPORT, name], capture_output=True, text=True, check=True
    )
    modules = json.loads(done.stdout)
    every = {"pika", "stomp", "httpcore", "httpx", "zwrap.transport.memory",
             *(f"zwrap.transport.{each}" for each in ("rabbitmq", "stomp", "spool"))}  # fmt: skip
    assert {module for module in every if module in modules} == own


def test_zocalo_go_and_a_dispatcher_load_no_ledger(tmp_path: Path) -> None:
    recipes = tmp_path / "recipes"
    recipes.mkdir()
    (recipes / "r.json").write_text(json.dumps({"start": [[1, []]], "1": {"queue": "q"}}))
    (tmp_path / "site.yml").write_text(
        "version: 1\nenvironments: {default: [s]}\n"
        f"s: {{plugin: storage, zocalo.recipe_directory: {recipes}}}\n"
    )
    site = {"ZOCALO_CONFIG": str(tmp_path / "site.yml")}
    for name, arguments in (("go", ["-n", "-r", "r"]), ("service", ["-s", "Dispatcher", "--once"])):
        modules = loaded(tmp_path, name, *arguments, environment=site)
        assert among(modules, *OUTSIDE, *LEDGER, *FAR, *SUBMITS, *SHOWS) == []
        assert name == "go" or among(modules, "pkgutil", "shutil") == []


def test_what_few_definitions_need_is_loaded_with_those_only(tmp_path: Path, step: Path) -> None:
    modules = loaded(tmp_path, "wrap", "--wrap", "command", "--recipewrapper", str(step))
    seldom = ("zwrap.wrapper.early", "zwrap.program.causes.recognition", "zwrap.program.sweeps",
              "zwrap.program.causes.errorlist", "zwrap.program.checks", "zwrap.wrapper.continuing",
              "zwrap.recipe.lines", "zwrap.recipe.remarks", "zwrap.program.keys.expectation",
              "zwrap.wrapper.progress")  # fmt: skip
    assert among(modules, *seldom, "zwrap.program.files", "zwrap.program.keys.messages") == []
    assert among(modules, "zwrap.wrapper.python", "zwrap.wrapper.pythonstep") == []
    assert among(modules, "random") == []
    # The lowest version of msgspec loads it by itself.
    asked = "import msgspec, sys; print('json' in sys.modules)"
    alone = subprocess.run(
        [sys.executable, "-P", "-c", asked], capture_output=True, text=True, check=True
    )
    assert modules["uses json"] == alone.stdout.strip()


def test_no_annotation_of_a_definition_is_a_text() -> None:
    """Python would compile each when the first definition is read, which takes 3 ms of a job."""
    pending: list[Any] = [Definition]
    found = set()
    while pending:
        each = pending.pop()
        pending += get_args(each)
        if isinstance(each, type) and issubclass(each, msgspec.Struct) and each not in found:
            found.add(each)
            assert not [text for text in each.__annotations__.values() if isinstance(text, str)]
            pending += [*each.__annotations__.values(), *each.__bases__]
    assert len(found) > 15
