"""Fixtures, marks and settings of all tests."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, settings

from zwrap.host import stopping

from .commanding import Commands
from .database import Collected, Database
from .ordering import in_stretches

WHOLE = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
settings.register_profile("whole", WHOLE)
settings.register_profile("fast", WHOLE, max_examples=20)
settings.load_profile("whole")


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test sees the caller's configuration, spool or batch job."""
    for name in list(os.environ):
        kept = name == "ZWRAP_TEST_DATA"
        if (name.startswith(("ZWRAP_", "ZOCALO_", "SLURM_")) and not kept) or name in (
            "JOB_ID",
            "SGE_TASK_ID",
        ):
            monkeypatch.delenv(name)
    monkeypatch.setenv("ZWRAP_STATE", str(tmp_path / "state"))


TESTS = Path(__file__).parent

ALONE = "chaos/"
"""Tests that use up the machine: `scripts/test` runs them by themselves, two at a time."""


if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell without terminal lets its background jobs ignore SIGINT, and all that they start.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, Any, Any]:
    """Escape lone surrogates in what a test printed and logged: pytest-xdist cannot send them."""
    report = yield
    report.sections = [
        (name, text.encode("utf-8", "backslashreplace").decode()) for name, text in report.sections
    ]
    return report


SELECTED_BY = pytest.StashKey[set[str]]()
"""Words by which `pytest -k` selects the tests that were collected."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark and order them; keep what they are selected by, before some are left out."""
    config.stash[SELECTED_BY] = {str(word).lower() for item in items for word in item.keywords}
    for item in items:
        if str(item.path.relative_to(TESTS)).startswith(ALONE):
            item.add_marker(pytest.mark.alone)
    items[:] = in_stretches(items)


@pytest.fixture(autouse=True)
def no_adoption() -> Iterator[None]:
    """No test makes this process adopt the orphans of later ones (PR_SET_CHILD_SUBREAPER)."""
    yield
    ctypes.CDLL(None).prctl(36, 0, 0, 0, 0)


@pytest.fixture(autouse=True)
def no_stop() -> Iterator[None]:
    """No test leaves a stop signal behind, after which later ones would wait less for brokers."""
    yield
    stopping._asked.clear()


@pytest.fixture
def saved() -> Path:
    """Return the directory of the outputs of real programs that are kept with the project."""
    return TESTS / "data"


@pytest.fixture
def elsewhere() -> Path:
    """Real data under licences that keep them out of the project (tests/data/README.md)."""
    directory = Path(os.environ.get("ZWRAP_TEST_DATA") or TESTS.parent.parent / "shared" / "data")
    if not directory.is_dir():
        missing = f"{directory} is not there; ZWRAP_TEST_DATA names another place"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    return directory


def _rig(name: str, directory: Path) -> Iterator[dict[str, Any]]:
    rig = [sys.executable, str(TESTS.parent / "scripts" / "rig"), name]
    place = ["--directory", str(directory)]
    started = subprocess.run([*rig, "up", *place], capture_output=True, text=True, check=False)
    if started.returncode:
        pytest.fail(started.stderr)
    yield json.loads((directory / "connection.json").read_text())
    subprocess.run([*rig, "down", *place], check=True)


def _fixture(name: str) -> Any:
    """Return a fixture: the connection.json of a real server, which lives as long as the tests."""

    @pytest.fixture(scope="session", name=name.replace("-", "_"))
    def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
        # A short name: sockets lie there, and the path of one has 107 characters at most (unix(7)).
        yield from _rig(name, tmp_path_factory.mktemp("rig"))

    return rig


activemq = _fixture("activemq")
mariadb = _fixture("mariadb")
postgresql = _fixture("postgresql")
rabbitmq = _fixture("rabbitmq")
sge = _fixture("sge")
slurm = _fixture("slurm")
slurm_cgroup = _fixture("slurm-cgroup")
slurm_torque = _fixture("slurm-torque")
slurm_accounting = _fixture("slurm-accounting")
"""With accounting, and a controller that soon forgets."""


@pytest.fixture
def empty_postgresql(postgresql: dict[str, Any]) -> dict[str, Any]:
    """Return how to reach the database, in which there are no tables any more."""
    engine = sa.create_engine(postgresql["url"], poolclass=sa.NullPool)
    with engine.begin() as connection:
        connection.execute(sa.text("drop schema public cascade"))
        connection.execute(sa.text("create schema public"))
    return postgresql


@pytest.fixture(scope="session")
def ispyb_tables(mariadb: dict[str, Any]) -> Database:
    database = Database(mariadb)
    database.create()
    return database


@pytest.fixture
def ispyb(ispyb_tables: Database) -> Database:
    """Return an ISPyB database in a real MariaDB, all of whose tables are empty."""
    ispyb_tables.empty()
    return ispyb_tables


@pytest.fixture
def collected(ispyb: Database) -> Collected:
    """Return the ids of a data collection of a visit, in an ISPyB database without more."""
    return ispyb.collect()


@pytest.fixture
def commands(ispyb: Database, collected: Collected) -> Iterator[Commands]:
    """Yield what carries out commands of the ISPyB service, after a data collection."""
    found = Commands(ispyb, collected)
    yield found
    found.close()
