"""Jobs of a site: submitted, and looked at as a user does."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
from typing import Any

from zwrap.attempt.record import Attempt
from zwrap.cli import jobs as command
from zwrap.cli.joblist import ledger_of
from zwrap.configuration.site import Configuration
from zwrap.recipe.envelope import Envelope
from zwrap.recipe.graph import Recipe

from .conftest import Site


def on_cluster(site: Site, **described: Any) -> None:
    site.settings["scheduler"] = "cluster"
    site.sections["clusters"] = {"plugin": "clusters", "cluster": described}
    site.write_config()


def run(site: Site, *arguments: str) -> Any:
    return site.run("zwrap", *arguments)


def jobs(site: Site, *options: str) -> list[dict[str, Any]]:
    """Return what `zwrap jobs --json` prints, made in this process: tests ask again and again."""
    parser = argparse.ArgumentParser()
    command.declare(parser)
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        configuration = Configuration.from_file(site.config).activate()
        assert command.run(configuration, parser.parse_args(["--json", *options])) == 0
    return listed(printed.getvalue())


def listed(printed: str) -> list[dict[str, Any]]:
    """Return jobs as `zwrap jobs --json` prints them, without the time at which it was asked."""
    found = [json.loads(line) for line in printed.splitlines()]
    return [{key: each[key] for key in each if key != "known"} for each in found]


def states(site: Site) -> dict[str, tuple[str, str]]:
    """Return state and cause of each job, by name."""
    return {job["job_name"]: (job["state"], job["cause"]) for job in jobs(site)}


def waiting(site: Site) -> dict[str, str]:
    """Return the cause of each job that its batch system does not take now, by name."""
    return {name: cause for name, (state, cause) in states(site).items() if state == "waiting"}


def attempts(site: Site) -> list[Attempt]:
    """Return what the ledger says of each attempt; no batch system is asked."""
    with ledger_of(Configuration.from_file(site.config).activate()) as ledger:
        return ledger.queries.newest(10_000)


def submit(site: Site, name: str, command: str, **block: Any) -> None:
    """Send a request whose only step runs a command, and let it be submitted."""
    step = {
        "queue": "cluster.submission",
        "parameters": {
            "cluster": {
                "job_name": name,
                "commands": "zocalo.wrap --wrap command --recipewrapper $RECIPEWRAP",
                **block,
            },
            "workingdir": str(site.directory / name),
        },
        "job_parameters": {"command": ["sh", "-c", command]},
        "output": {"success": 2},
    }
    recipe = Recipe({"start": [[1, []]], "1": step, "2": {"queue": "ended"}})
    with site.transport() as transport:
        transport.commit(Envelope(recipe, 1, environment={"ID": name}).start())
    site.run("zocalo.service", "-s", "Submitter", "--once")
