"""Several commands in one step, as a job runs them: a chain of real small programs."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from zwrap.attempt.directory import JobDirectory

from .conftest import Site
from .test_wrap import Job, script

Wait = Callable[..., Any]

CHAIN: dict[str, Any] = {
    "inputs": {"names": {}, "title": {}, "n": {}},
    "command": ["sort", ["-k", "{n}"], {"if": "n", "then": "-r"}],
    "stdin": "title {title}\n{names}\n",
    "stdout": "sorted.txt",
    "success": {"files": ["sorted.txt"]},
    "then": [
        {
            "name": "number",
            "set_up": ["export LABEL={title}"],
            "command": "nl sorted.txt >numbered.txt\ncat <<END\nlabel {title}\nname {names}\nEND",
            "success": {
                "files": ["numbered.txt"],
                "text": [{"file": "stdout", "pattern": "^name"}],
            },
        },
        {"name": "report", "command": ["false"], "required": False},
        {
            "name": "count",
            "for_each": {"name": "names"},
            "command": ["grep", "-cF", "--", "{name}", "sorted.txt"],
        },
    ],
    "outputs": {"parsed": {"file": "numbered.txt", "parser": "lines"}},
    "files": [{"pattern": "stdout"}, {"pattern": "count-*.log", "type": "log", "rank": 2}],
}


def test_a_chain_of_programs_is_one_step(site: Site, tmp_path: Path) -> None:
    hostile = "$(touch PWNED) 'x' \"y\" `touch PWNED`"
    job = Job(site, tmp_path / "work", **CHAIN, names=["b c", hostile])
    done = job.run()
    assert done.returncode == 0, done.stderr
    directory = job.directory
    assert (directory / "sorted.txt").read_text().splitlines() == sorted([hostile, "b c"])
    assert (directory / "number.log").read_text() == f"name b c\nname {hostile}\n"
    assert [(directory / f"count-{n}.log").read_text() for n in (1, 2)] == ["1\n", "1\n"]
    assert not (directory / "PWNED").exists()
    payloads = job.payloads(7)
    assert payloads[0] == "Starting processing"
    assert [body["file_name"] for body in payloads[1:4]] == [
        "sorted.txt", "count-1.log", "count-2.log",
    ]  # fmt: skip
    assert len(payloads[4]) == 2
    assert payloads[-1] == "Finished processing"
    verdict = JobDirectory(job.job_directory).verdict()
    assert verdict
    failed = "command 3 of 5 (report), which is not required: it exited with status 1"
    assert (verdict.cause, verdict.failed_commands) == ("finished", [failed])
    assert failed in done.stderr
    replayed = site.run("zwrap", "replay", str(directory), "--dry-run")
    assert replayed.returncode == 0, replayed.stderr


def test_a_stop_ends_the_chain_and_tells_which_command_ran(
    site: Site, tmp_path: Path, wait_until: Wait
) -> None:
    listener = site.transport()
    listener.subscribe_topic("transient.status")
    slow = script("touch runs; sleep 60 & wait")
    commands: dict[str, Any] = {
        "command": ["true"],
        "then": [
            {"name": "slow", "command": slow, "required": False},
            {"name": "never", "command": ["touch", "never"]},
        ],
    }
    job = Job(site, tmp_path / "work", **commands)
    process = job.start()
    wait_until((job.directory / "runs").exists)
    texts: list[str] = []

    def told() -> bool:
        while delivery := listener.receive(0.1):
            texts.append(delivery.message.body["statustext"])
        return any("command 2 of 3 (slow)" in text for text in texts)

    wait_until(told)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)
    failure = job.payloads(3)[1]
    assert failure.startswith("command: command 2 of 3 (slow): it was stopped after")
    assert failure.rstrip(".").endswith("by SIGTERM")
    assert not (job.directory / "never").exists()
