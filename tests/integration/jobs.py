"""Jobs of a site: sent, submitted and looked at as a user does."""

from __future__ import annotations

import json
from typing import Any

from .conftest import Site


def on_cluster(site: Site, **described: Any) -> None:
    site.settings["scheduler"] = "cluster"
    site.sections["clusters"] = {"plugin": "clusters", "cluster": described}
    site.write_config()


def run(site: Site, *arguments: str) -> Any:
    return site.run("zwrap", *arguments)


def jobs(site: Site, *options: str) -> list[dict[str, Any]]:
    done = run(site, "jobs", "--json", *options)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


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
    recipe = {"start": [[1, []]], "1": step, "2": {"queue": "ended"}}
    (site.recipes / f"{name}.json").write_text(json.dumps(recipe))
    site.run("zocalo.go", "-n", "-r", name)
    site.run("zocalo.service", "-s", "Dispatcher", "--once")
    site.run("zocalo.service", "-s", "Submitter", "--once")
