"""The main job end to end: real services, the real local batch system, the real gemmi."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from .conftest import BIN, Site

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
DATA = EXAMPLES / "demo" / "data"

Wait = Callable[..., Any]


def step(directory: Path, command: Any, outputs: dict[str, Any], **cluster: Any) -> dict[str, Any]:
    return {
        "queue": "cluster.submission",
        "parameters": {
            "cluster": {
                "commands": "zocalo.wrap --wrap command --recipewrapper $RECIPEWRAP",
                **cluster,
            },
            "workingdir": str(directory),
        },
        "job_parameters": {"working_directory": str(directory), "command": command},
        "output": outputs,
    }


def write_recipe(site: Site, name: str, **nodes: Any) -> None:
    recipe = {"start": [[1, []]], **{key.lstrip("n"): node for key, node in nodes.items()}}
    (site.recipes / f"{name}.json").write_text(json.dumps(recipe))


def test_the_demo_recipe_gives_the_values_of_the_real_program(site: Site) -> None:
    """The values are compared with what gemmi itself prints."""
    gemmi = str(BIN / "gemmi")
    shutil.copy(EXAMPLES / "demo" / "insulin.json", site.recipes / "insulin.json")
    unmerged = DATA / "cm0001v1_xinsu1_scaled_unmerged.mtz"
    site.service("Dispatcher")
    site.service("Submitter")
    work = site.directory / "work dir"
    sent = site.run(
        "zocalo.go", "-n", "-r", "insulin", "-s", f"workingdir={work}", "-s", f"gemmi={gemmi}",
        "-s", f"unmerged={unmerged}", "-s", f"merged={DATA / 'cm0001v1_xinsu1_scaled.mtz'}",
    )  # fmt: skip
    printed = "Running recipes ['insulin']\nwithout specified data collection.\n\nSubmitted.\n"
    said, _, told = sent.stdout.partition("Request ")
    assert (sent.returncode, said) == (0, printed)
    assert f"is in queue processing_recipe of spool {site.spool}; the ID of its recipe is" in told
    succeeded = site.take("demo.succeeded", 5, seconds=90)
    assert sorted(body["recipe-path"][-1] for body in succeeded) == [1, 2, 3, 4, 6]
    paths = {tuple(body["recipe-path"]) for body in succeeded}
    assert paths == {(1,), (2,), (2, 3), (2, 4), (1, 6)}
    [failed] = site.take("demo.failed")
    assert failed["recipe-path"] == [5]
    assert "exited with status 1" in failed["payload"]
    assert (
        "ERROR: merging statistics can be calculated only from unmerged data" in failed["payload"]
    )
    submitted = site.take("demo.submitted", 6)
    assert {body["payload"]["scheduler"] for body in submitted} == {"local"}
    assert len({body["payload"]["jobid"] for body in submitted}) == 6

    payloads = {body["recipe-path"][-1]: body["payload"] for body in site.take("demo.results", 5)}
    printed = subprocess.run(
        [gemmi, "merge", "--stats=10", str(unmerged)], capture_output=True, text=True, check=True
    ).stdout
    words = dict(line.split(":", 1) for line in printed.splitlines() if ":" in line)
    overall = payloads[1]["overall"]
    assert overall["r_merge"] == float(words["R-merge"].split()[0])
    assert overall["observations"] == int(words["Observations (all reflections)"])
    assert len(payloads[1]["shells"]) == 10
    header = subprocess.run(
        [gemmi, "mtz", "-s", str(work / "2-merge" / "merged.mtz")],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert f"Resolution: {payloads[3]['d_min']} - {payloads[3]['d_max']} A" in header
    assert [c["column"] for c in payloads[3]["columns"]] == ["H", "K", "L", "IMEAN", "SIGIMEAN"]
    assert "\ndata_" in (work / "4-mmcif" / "merged.cif").read_text()
    assert f"CC1/2 {overall['cc_half']}" in (work / "6-report" / "report.txt").read_text()
    assert site.dead_letters("cluster.submission") == []


def test_a_job_script_with_odd_names_runs(site: Site) -> None:
    odd = site.directory / 'it\'s a "dir"\n$HOME `id`'
    write_recipe(
        site,
        "odd",
        n1=step(odd, ["/bin/sh", "-c", "pwd; echo \"$V\""], {"success": 2, "job_submitted": 2},
                environment={"V": "a 'b' \"c\" $d\ne"}),
        n2={"queue": "out"},
    )  # fmt: skip
    site.service("Dispatcher")
    site.service("Submitter")
    site.run("zocalo.go", "-n", "-r", "odd")
    site.take("out", 2)
    assert (odd / "command.log").read_text() == f"{odd}\na 'b' \"c\" $d\ne\n"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"workingdir": "rel"}, "node 1, parameters, key 'workingdir' is 'rel'"),
        ({"cluster": {"commands": "x", "gpus": 1}}, "cannot give 'gpus'"),
        ({"cluster": {"commands": "x", "scheduler": "slrum"}}, "Unknown scheduler 'slrum'"),
        ({"cluster": {}}, "missing required field `commands`"),
        ({"workingdir": "/proc/self"}, "The files of the job cannot be written: /proc/self/.zwrap"),
        ({"workingdir": "/proc/no"}, "The files of the job cannot be written: /proc/no"),
    ],
)
def test_a_step_that_cannot_become_a_job_is_a_dead_letter_and_tells_the_error_nodes(
    site: Site, change: dict[str, Any], reason: str
) -> None:
    node = step(site.directory / "w", ["true"], {"success": 2})
    node["parameters"].update(change)
    node["error"] = 2
    write_recipe(site, "bad", n1=node, n2={"queue": "out"})
    site.run("zocalo.go", "-n", "-r", "bad")
    site.service("Dispatcher", "--once").wait(20)
    site.service("Submitter", "--once").wait(20)
    [letter] = site.dead_letters("cluster.submission")
    assert reason in letter
    assert "route 1" in letter
    assert reason in site.take("out")[0]["payload"]["error"]


def test_malformed_files_in_the_spool_are_dead_letters_and_the_service_lives(site: Site) -> None:
    write_recipe(site, "good", n1={"queue": "out"})
    queue = site.transport().queue("processing_recipe").path / "incoming"
    (queue / "broken").write_text('{"recipes": [')
    (queue / "empty").write_text("")
    (queue / "blank").write_text(" \n")
    (queue / "binary").write_bytes(b"\xff\xfe\x00")
    (queue / "a-directory").mkdir()
    (queue / "0001-x-1-1.zwrap").write_text("[]")
    (queue / "plain").write_text('{"recipes": ["good"]}')
    service = site.service("Dispatcher", "--once")
    assert service.wait(20) == 0
    assert len(site.take("out")) == 1
    reasons = " ".join(site.dead_letters("processing_recipe"))
    assert reasons.count("is empty") == 2
    assert reasons.count("not valid JSON") == 2
    assert "a-directory is a directory; only a regular file is read" in reasons
    assert '{"headers": ..., "message": ...}' in reasons


def test_a_service_ends_on_shutdown_and_on_signals(site: Site, wait_until: Wait) -> None:
    services = [site.service("Dispatcher") for _ in range(2)]
    log = site.directory / "Dispatcher.log"
    wait_until(lambda: log.read_text().count("reads queue") == 2)
    told = site.run("zocalo.shutdown", "-s", "Dispatcher")
    assert told.stdout == "Stopping all instances of Dispatcher\n"
    assert [service.wait(20) for service in services] == [0, 0]
    third = site.service("Dispatcher")
    wait_until(lambda: log.read_text().count("reads queue") == 3)
    third.send_signal(signal.SIGTERM)
    assert third.wait(20) == 0


def test_a_second_signal_ends_a_service_at_once_and_its_message_comes_again(
    site: Site, wait_until: Wait
) -> None:
    """A site's own function hangs: the first signal waits for it, the second does not."""
    package = site.directory / "site-packages"
    info = package / "hangs-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: hangs\nVersion: 1\n")
    group = "zocalo.services.dispatcher.filters"
    (info / "entry_points.txt").write_text(f"[{group}]\nhangs = hangs:hangs\n")
    (package / "hangs.py").write_text(
        "import pathlib, time\n"
        "def hangs(message, parameters):\n"
        f"    pathlib.Path({str(site.directory / 'hung')!r}).touch()\n"
        "    time.sleep(600)\n"
    )
    site.run("zocalo.go", "-n", "-r", "any")
    process = site.start("zocalo.service", "-s", "Dispatcher", env={"PYTHONPATH": str(package)})
    wait_until((site.directory / "hung").exists)
    process.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == -signal.SIGTERM
    queue = site.transport().queue("processing_recipe")
    assert queue.recover() == 1


def test_only_the_instance_that_is_named_ends(site: Site, wait_until: Wait) -> None:
    first, second = site.service("Dispatcher"), site.service("Dispatcher")
    log = site.directory / "Dispatcher.log"
    wait_until(lambda: log.read_text().count("reads queue") == 2)
    host = os.uname().nodename
    site.run("zocalo.shutdown", f"{host.split('.')[0]}.{first.pid}")
    assert first.wait(20) == 0
    assert second.poll() is None


@pytest.mark.parametrize("name", ["Dispatcher", "dispatcher", "Disp", "disp"])
def test_a_service_is_found_by_part_of_its_name(site: Site, name: str) -> None:
    assert site.run("zocalo.service", "-s", name, "--once").returncode == 0


@pytest.mark.parametrize(
    ("arguments", "status", "complaint"),
    [
        ([], 2, "Please specify a service name with -s."),
        (["-s", "Dipsatcher"], 100, "Did you mean 'Dispatcher'"),
        (["-s", "Dispatcher", "-t", "NoTransport"], 100, "Unknown transport 'NoTransport'"),
        (["-s", "Dispatcher", "-e", "gone"], 100, "Unknown environment 'gone'"),
    ],
)
def test_a_service_that_cannot_start_says_why(
    site: Site, arguments: list[str], status: int, complaint: str
) -> None:
    done = site.run("zocalo.service", *arguments)
    assert (done.returncode, complaint in done.stderr) == (status, True), done.stderr


def test_a_lock_lets_cron_start_a_service_every_minute(site: Site, wait_until: Wait) -> None:
    first = site.service("Dispatcher", "--lock")
    wait_until(lambda: "reads queue" in (site.directory / "Dispatcher.log").read_text())
    second = site.run("zocalo.service", "-s", "Dispatcher", "--lock")
    assert (second.returncode, second.stdout) == (
        0,
        "Another Dispatcher holds the lock; nothing to do.\n",
    )
    first.kill()
    first.wait()
    assert site.run("zocalo.service", "-s", "Dispatcher", "--lock", "--once").returncode == 0


def test_a_service_that_fails_is_started_again(site: Site, wait_until: Wait) -> None:
    process = site.service("Dispatcher", "-r")
    log = site.directory / "Dispatcher.log"
    wait_until(lambda: log.read_text().count("reads queue") == 1)
    [child] = psutil.Process(process.pid).children()
    child.kill()
    wait_until(lambda: log.read_text().count("reads queue") == 2)
    process.terminate()
    assert process.wait(20) == 0


def test_a_service_that_cannot_run_at_all_is_not_started_again(site: Site) -> None:
    done = site.run("zocalo.service", "-s", "Dispatcher", "-r", "-t", "NoTransport")
    assert done.returncode == 100
    assert "again in" not in done.stderr


def test_a_restarted_service_holds_its_lock_once(site: Site, wait_until: Wait) -> None:
    process = site.service("Dispatcher", "-r", "--lock", "-v")
    wait_until(lambda: "reads queue" in (site.directory / "Dispatcher.log").read_text())
    assert "holds the lock" in site.run("zocalo.service", "-s", "Dispatcher", "--lock").stdout
    process.terminate()
    assert process.wait(20) == 0


def test_the_readable_loop_dispatches(site: Site) -> None:
    write_recipe(site, "good", n1={"queue": "out"})
    site.run("zocalo.go", "-n", "-r", "good")
    done = site.run(sys.executable, str(ROOT / "scripts" / "dispatcher"), "2")
    assert done.returncode == 0, done.stderr
    assert len(site.take("out")) == 1


def test_a_killed_submitter_starts_no_job_twice(site: Site, wait_until: Wait) -> None:
    """The same message handled again finds the job of the first time."""
    work = site.directory / "w"
    write_recipe(
        site, "r", n1=step(work, ["/bin/sh", "-c", "echo x >>runs"], {"success": 2}),
        n2={"queue": "out"},
    )  # fmt: skip
    site.run("zocalo.go", "-n", "-r", "r")
    site.service("Dispatcher", "--once").wait(20)
    [message] = [
        path.read_bytes() for path in (site.spool / "cluster.submission" / "incoming").iterdir()
    ]
    site.service("Submitter", "--once").wait(20)
    site.take("out")
    for name in ("again-1.zwrap", "again-2.zwrap"):
        (site.spool / "cluster.submission" / "incoming" / name).write_bytes(message)
    site.service("Submitter", "--once").wait(20)
    time.sleep(1)
    assert (work / "runs").read_text() == "x\n"
    assert len(list((site.directory / "state" / "localbatch" / "done").iterdir())) == 1


def test_a_step_without_a_wrapper_is_a_job_all_the_same(site: Site, wait_until: Wait) -> None:
    work = site.directory / "w"
    node = step(work, [], {}, commands=["echo $RECIPEPOINTER >file", "cat $RECIPEENV >>file"])
    write_recipe(site, "plain", n1=node)
    site.run("zocalo.go", "-n", "-r", "plain")
    site.service("Dispatcher", "--once").wait(20)
    site.service("Submitter", "--once").wait(20)
    text = wait_until(lambda: (work / "file").exists() and (work / "file").read_text())
    assert text.startswith("1\n")
    wait_until(lambda: '"ID"' in (work / "file").read_text())


@pytest.mark.slow
def test_the_demo_runs_twice(site: Site) -> None:
    for number in (1, 2):
        done = site.run(
            sys.executable, str(EXAMPLES / "demo" / "run.py"),
            "--output", str(site.directory / f"run {number}"),
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        assert "Every step ended as it should" in done.stdout
        assert "CC1/2 0.99984" in done.stdout
