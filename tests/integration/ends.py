"""Steps that end, and what is told of them."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from zwrap.attempt.record import Attempt
from zwrap.recipe.envelope import Envelope
from zwrap.recipe.graph import Recipe

from .conftest import Site
from .jobs import attempts, jobs, run

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
    transport = site.transport()
    block = {"job_name": name, **block}
    transport.commit(step_of(site, name, command, parameters, program, block).start())
    transport.close()
    assert site.run("zocalo.service", "-s", "Submitter", "--once").returncode == 0


def step_of(
    site: Site,
    name: str,
    command: str,
    parameters: dict[str, Any] | None,
    program: dict[str, Any] | None,
    block: dict[str, Any],
) -> Envelope:
    step = {
        "queue": "cluster.submission",
        "parameters": {
            "cluster": {"commands": WRAP, **block},
            "workingdir": str(site.directory / name),
            **(parameters or {}),
        },
        "job_parameters": {"command": ["sh", "-c", command], **(program or {})},
        "output": {"success": 2, "failure": 3, "completed": 4},
        "error": 5,
    }
    recipe = {"start": [[1, []]], "1": step}
    recipe |= {str(n): {"queue": queue} for n, queue in enumerate(QUEUES, 2)}
    return Envelope(Recipe(recipe), 1, environment={"ID": name})


def send(site: Site, *steps: tuple[str, dict[str, Any]], command: str = "true") -> None:
    """Let steps wait at the same time: names, which are those of the jobs, too, and blocks."""
    with site.transport() as transport:
        for name, block in steps:
            named = {"job_name": name, **block}
            transport.commit(step_of(site, name, command, None, None, named).start())


def submit_together(
    site: Site,
    names: Sequence[str],
    command: str,
    parameters: dict[str, Any],
    **block: Any,
) -> None:
    """Submit steps that wait at the same time, each with its own directory.

    All but the first one are the tasks of one array.
    """
    transport = site.transport()
    for name in names:
        transport.commit(step_of(site, name, command, parameters, None, block).start())
    transport.close()
    assert site.run("zocalo.service", "-s", "Submitter", "--once").returncode == 0


def concluded(
    on: Site, wait_until: Wait, name: str, seconds: float = 90, attempt: int | None = None
) -> dict[str, Any]:
    """Wait until the Watcher has recorded the end of the one job of that name; return the job."""

    def found() -> Attempt | None:
        end = "" if attempt is None else f"-{attempt}"
        [job] = [
            each for each in attempts(on) if each.job_name == name and each.token.endswith(end)
        ]
        return job if job.outcome else None

    job: Attempt = wait_until(found, seconds=seconds)
    full: dict[str, Any] = json.loads(run(on, "jobs", "--json", job.token).stdout)
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


def second_attempt(site: Site, wait_until: Wait, outcome: str = "success") -> dict[str, Any]:
    """Let the next attempt be submitted; return its job when it has that outcome."""
    assert site.run("zocalo.service", "-s", "Submitter", "--once").returncode == 0
    wait_until(lambda: outcome in [each.outcome for each in attempts(site)], seconds=90)
    [job] = [job for job in jobs(site) if job["outcome"] == outcome]
    return job


def one_is_tried_again(site: Site, wait_until: Wait, names: Sequence[str], with_more: str) -> None:
    """Of an array the task in `w1`; then all have ended well, and each has worked once."""

    def ended() -> list[dict[str, Any]]:
        return jobs(site) if all(each.outcome for each in attempts(site)) else []

    # The Submitter that put in the array may have put in the next attempt, too.
    first = [job for job in wait_until(ended, seconds=90) if job["token"].endswith("-1")]
    assert sorted(job["outcome"] for job in first) == ["retried", "success", "success"], first
    [retried] = [job for job in first if job["outcome"] == "retried"]
    assert retried["cause"].endswith(f"tried again as attempt 2 with {with_more}")
    assert site.run("zocalo.service", "-s", "Submitter", "--once").returncode == 0
    every = wait_until(lambda: len(found := ended()) == 4 and found, seconds=90)
    [again] = [job for job in every if job["token"][:-2] == retried["token"][:-2]][1:]
    assert (again["outcome"], again["job_directory"].split("/")[-3]) == ("success", "w1")
    assert {name: (site.directory / name / "runs").read_text() for name in names} == (
        dict.fromkeys(names, "x\n")
    )
    assert {queue: len(each) for queue, each in told(site).items()} == {
        "success": 3, "completed": 3,
    }  # fmt: skip


def processes(*words: str) -> list[int]:
    """Return the processes whose command line, or environment, has all these words."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdecimal():
                text = (entry / "cmdline").read_bytes().replace(b"\0", b" ")
                text += (entry / "environ").read_bytes()
                if text.startswith(words[0].encode()) and all(w.encode() in text for w in words):
                    found.append(int(entry.name))
    return found
