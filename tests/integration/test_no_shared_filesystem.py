"""Clusters whose nodes share no filesystem with the submit host.

The nodes here are of the same machine: so each job takes its working directory away at its end,
and nothing but its messages can tell of it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import Site, transport_of
from .ends import WRAP, Wait, concluded, step_of, submit, told
from .jobs import jobs, run

GONE = f'{WRAP}; status=$?; cd /; rm -rf "$HERE"; exit $status'


@pytest.fixture
def elsewhere(on: Site) -> Callable[..., None]:
    """Return a function that submits one step to nodes with their own installation of zwrap."""
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    on.sections["clusters"]["cluster"] |= {
        "watch_s": 0.5, "shared_filesystem": False, "retry": {"on": ["out_of_memory"]},
        "defaults": {"environment": {"PATH": path}},
    }  # fmt: skip
    on.write_config()

    def start(name: str, command: str) -> None:
        submit(on, name, command, commands=f"HERE=$PWD; {GONE}")
        on.service("Watcher")

    return start


@pytest.mark.parametrize(("command", "outcome"), [("true", "success"), ("exit 3", "failure")])
def test_the_wrapper_s_word_comes_as_a_message(
    on: Site, elsewhere: Callable[..., None], wait_until: Wait, command: str, outcome: str
) -> None:
    elsewhere("w", command)
    job = concluded(on, wait_until, "w")
    assert (job["outcome"], job["witness"]) == (outcome, "wrapper")
    assert (job["verdict"]["cause"], job["late"]) == (job["cause"], None)
    counts = {queue: len(each) for queue, each in told(on).items() if queue != "errors"}
    assert counts == {outcome: 1, "completed": 1}
    assert not (on.directory / "w").exists()
    assert not list(on.directory.glob("state/scripts/*"))
    assert on.transport().inspector().waiting("zwrap.verdict") == 0


def test_over_any_transport(bus: Site, wait_until: Wait) -> None:
    """A node that shares nothing needs a broker that it reaches."""
    remote = {
        "kind": "local",
        "watch_s": 0.5,
        "shared_filesystem": False,
        "defaults": {"environment": {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}},
    }
    text = bus.config.read_text().replace("{default: [", "{default: [far, ")
    section = {"plugin": "clusters", "cluster": remote}
    bus.config.write_text(f"{text}far: {json.dumps(section)}\n")
    block = {"scheduler": "cluster", "job_name": "w", "commands": f"HERE=$PWD; {GONE}"}
    bus.service("Watcher")
    bus.service("Submitter")
    transport = transport_of(bus)
    for queue in ("success", "completed", "failure"):
        transport.subscribe(queue, 1)
    transport.commit(step_of(bus, "w", "true", None, None, block).start())
    heard: list[str] = []

    def hears() -> bool:
        if delivery := transport.receive(1.0):
            heard.append(delivery.source)
            delivery.ack()
        return len(heard) > 1

    wait_until(hears, seconds=60)
    assert sorted(heard) == ["completed", "success"]
    assert transport.receive(3.0) is None
    transport.close()
    assert [job["witness"] for job in jobs(bus)] == ["wrapper"]


def test_a_wrapper_that_is_killed(
    on: Site, elsewhere: Callable[..., None], wait_until: Wait
) -> None:
    elsewhere("w", "kill -9 $PPID")
    job = concluded(on, wait_until, "w")
    assert (job["outcome"], job["witness"]) == ("failure", "cluster cluster")
    assert "it failed (exit status 137" in job["cause"]
    assert {queue: len(each) for queue, each in told(on).items()} == {
        "failure": 1, "completed": 1, "errors": 1,
    }  # fmt: skip
    again = run(on, "resubmit", job["job_id"])
    assert again.returncode == 0, again.stderr
    assert on.run("zocalo.service", "-s", "Submitter", "--once").returncode == 0
    assert sorted(each["token"][-2:] for each in jobs(on)) == ["-1", "-2"]


def test_its_script_brings_all_files_along(on: Site, elsewhere: Callable[..., None]) -> None:
    """The files hold all characters that need quotes; `zwrap render` shows the script."""
    del elsewhere
    awkward = 'it\'s $HOME `x` "q" \\ \u00e9\n%s'
    step = {
        "queue": "cluster.submission",
        "parameters": {
            "cluster": {"commands": 'cp "$RECIPEWRAP" copy'},
            "workingdir": str(on.directory / "w'x y"), "said": awkward,
        },
    }  # fmt: skip
    file = on.directory / "r.json"
    file.write_text(json.dumps({"start": [[1, []]], "1": step}))
    shown = run(on, "render", str(file))
    assert shown.returncode == 0, shown.stderr
    script = on.directory / "script"
    script.write_text(shown.stdout)
    subprocess.run(["bash", str(script)], check=True)
    copy = json.loads((on.directory / "w'x y" / "copy").read_text())
    assert copy["recipe"]["1"]["parameters"]["said"] == awkward
