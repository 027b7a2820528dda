"""Services that run while their ledger goes, and while it is upgraded."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from .conftest import BIN, Site
from .ends import Wait, send
from .jobs import attempts, on_cluster, run
from .release import Installation, last_commit, wheel_of

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default:No commit before this one")]

WITHIN_S = 60.0
"""Time in which a running service has to say that its ledger is gone."""


def log_of(site: Site, name: str) -> str:
    return (site.directory / f"{name}.log").read_text()


def ended_well(site: Site, count: int) -> bool:
    return [each.outcome for each in attempts(site)] == ["success"] * count


def test_running_services_find_that_their_ledger_is_gone_and_lose_no_message(
    site: Site, wait_until: Wait
) -> None:
    on_cluster(site, kind="local", watch_s=0.5)
    services = [site.service(name) for name in ("Submitter", "Watcher")]
    send(site, ("one", {}))
    wait_until((site.directory / "state" / "ledger.sqlite").exists, seconds=60)
    wait_until(lambda: ended_well(site, 1), seconds=90)
    state = site.directory / "state"
    state.rename(site.directory / "away")
    for name in ("Submitter", "Watcher"):
        wait_until(lambda name=name: "was removed or replaced" in log_of(site, name), WITHIN_S)
    send(site, ("two", {}))
    refused = run(site, "jobs")
    assert refused.returncode == 100, "the spool says that there was one"
    assert "zwrap ledger create" in refused.stderr
    assert not (state / "ledger.sqlite").exists()
    with contextlib.suppress(FileNotFoundError):
        state.rename(site.directory / "made-meanwhile")
    (site.directory / "away").rename(state)
    wait_until(lambda: ended_well(site, 2), seconds=120)
    assert site.dead_letters("cluster.submission") == []
    for service in services:
        assert service.poll() is None
        service.terminate()
        assert service.wait(60) == 0
    assert "Traceback" not in site.logs()


@pytest.mark.parametrize("name", ["Submitter", "Watcher"])
def test_no_service_begins_an_empty_ledger_where_there_was_one(site: Site, name: str) -> None:
    assert site.run("zocalo.service", "-s", "Watcher", "--once").returncode == 0
    (site.directory / "state" / "ledger.sqlite").unlink()
    ended = site.run("zocalo.service", "-s", name, "--once")
    assert ended.returncode == 100
    assert "zwrap ledger create" in ended.stderr
    assert run(site, "ledger", "create").returncode == 0
    assert site.run("zocalo.service", "-s", name, "--once").returncode == 0


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the wheel of the last release."""
    return wheel_of(last_commit(), tmp_path_factory.mktemp("release"))


def test_services_of_the_last_release_go_on_with_the_upgraded_ledger(
    site: Site, wheel: Path, wait_until: Wait
) -> None:
    site.bin = Installation(site.directory / "installed", wheel).bin
    on_cluster(site, kind="local", watch_s=0.5)
    services = [site.service(name) for name in ("Submitter", "Watcher")]
    send(site, ("before", {}))
    wait_until((site.directory / "state" / "ledger.sqlite").exists, seconds=60)
    wait_until(lambda: rows_of_old(site) == ["success"], seconds=90)
    environment: dict[str, Any] = {**site.environment(), "PATH": f"{BIN}:/usr/bin:/bin"}
    upgraded = subprocess.run(
        [BIN / "zwrap", "ledger", "upgrade"], env=environment, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert upgraded.returncode == 0, upgraded.stderr
    send(site, ("after", {}), ("again", {}))
    wait_until(lambda: ended_well(site, 3), seconds=120)
    for service in services:
        service.terminate()
        assert service.wait(60) == 0
    site.service("Watcher")  # of the last release, on the upgraded ledger
    site.bin = BIN
    today = site.service("Submitter")
    send(site, ("today", {}))
    wait_until(lambda: ended_well(site, 4), seconds=120)
    os.kill(today.pid, signal.SIGTERM)
    assert "Traceback" not in site.logs()


def rows_of_old(site: Site) -> list[str | None]:
    """Return the outcomes, as the commands of the last release show them."""
    command = [site.bin / "zwrap", "jobs", "--json"]
    told = subprocess.run(
        command, env=site.environment(), capture_output=True, text=True, check=False
    )
    return [json.loads(line)["outcome"] for line in told.stdout.splitlines()]
