"""Steps that end, and what is told of them."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from typing import Any

from zwrap.envelope import Envelope
from zwrap.recipe import Recipe

from .conftest import Site
from .jobs import jobs, run

Wait = Callable[..., Any]

WRAP = "zocalo.wrap --wrap command --recipewrapper $RECIPEWRAP"
QUEUES = ("success", "failure", "completed", "errors")


def submit(
    site: Site,
    name: str,
    command: str,
    parameters: dict[str, Any] | None = None,
    program: dict[str, Any] | None = None,
    **block: Any,
) -> None:
    """One step, submitted; what it says comes to QUEUES."""
    step = {
        "queue": "cluster.submission",
        "parameters": {
            "cluster": {"commands": WRAP, "job_name": name, **block},
            "workingdir": str(site.directory / name),
            **(parameters or {}),
        },
        "job_parameters": {"command": ["sh", "-c", command], **(program or {})},
        "output": {"success": 2, "failure": 3, "completed": 4},
        "error": 5,
    }
    recipe = {"start": [[1, []]], "1": step}
    recipe |= {str(n): {"queue": queue} for n, queue in enumerate(QUEUES, 2)}
    transport = site.transport()
    transport.commit(Envelope(Recipe(recipe), 1, environment={"ID": name}).start())
    transport.close()
    assert site.run("zocalo.service", "-s", "Submitter", "--once").returncode == 0


def concluded(on: Site, wait_until: Wait, name: str, seconds: float = 90) -> dict[str, Any]:
    """The job, once the Watcher has written down how it ended."""

    def found() -> dict[str, Any] | None:
        [job] = [each for each in jobs(on) if each["job_name"] == name]
        full = json.loads(run(on, "jobs", job["token"]).stdout)
        return full if full.get("outcome") else None

    full: dict[str, Any] = wait_until(found, seconds=seconds)
    return full


def told(on: Site) -> dict[str, list[Any]]:
    """Payloads of what was sent, by queue."""
    transport = on.transport()
    heard: dict[str, list[Any]] = {}
    for queue in QUEUES:
        transport.subscribe(queue, prefetch=10)
    while delivery := transport.receive(0.3):
        heard.setdefault(delivery.source, []).append(delivery.message.body["payload"])
        delivery.ack()
    transport.close()
    return heard


def claim_of(on: Site, name: str) -> dict[str, Any] | None:
    for file in (on.directory / name).glob(".zwrap/*/claim.json"):
        with contextlib.suppress(ValueError):
            return dict(json.loads(file.read_text()))
    return None


def described(site: Site, kind: str, environment: dict[str, str]) -> None:
    site.settings["scheduler"] = "cluster"
    cluster = {"kind": kind, "environment": environment, "watch_s": 0.5, "give_up_s": 1}
    site.sections["clusters"] = {"plugin": "clusters", "cluster": cluster}
    site.write_config()
