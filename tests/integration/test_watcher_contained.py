"""A Watcher as a process: what one job leaves behind is told of that job alone."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from zwrap.attempt.directory import SUBMISSION, JobDirectory
from zwrap.attempt.ledger.ledger import Ledger
from zwrap.attempt.record import SUBMITTED, Attempt
from zwrap.message.content import STATUS_TOPIC
from zwrap.message.jsontext import encode
from zwrap.recipe.envelope import Envelope
from zwrap.recipe.graph import Recipe

from .conftest import Site

HUGE = 10**400


def verdict(token: str, *final: dict[str, Any]) -> bytes:
    return json.dumps({
        "token": token, "outcome": "success", "witness": "wrapper", "cause": "finished",
        "job_id": "1", "exit_status": 0, "final": list(final),
    }).encode()  # fmt: skip


def write(name: str, content: bytes) -> Callable[[Path, str], None]:
    return lambda path, _: (path / name).write_bytes(content) and None


def final(**message: Any) -> Callable[[Path, str], None]:
    whole = {"destination": "told", "message": {"payload": 1}, **message}
    return lambda path, token: write("verdict.json", verdict(token, whole))(path, token)


def link(path: Path, _: str) -> None:
    shutil.rmtree(path)
    path.symlink_to(path.parent)


def policy(path: Path, _: str) -> None:
    kept = json.loads((path / SUBMISSION).read_text())
    kept["header"]["original-destination"] = "/queue/again"
    kept["asked"] = {"time_limit": 2, "memory_per_node": HUGE}
    kept["retry"] = {"on": ["timeout", "out_of_memory"], "walltime_factor": 1e308}
    (path / SUBMISSION).write_text(json.dumps(kept))


LEFT: dict[str, Callable[[Path, str], None]] = {
    "a verdict that is none": write("verdict.json", b"x"),
    "an empty verdict": write("verdict.json", b""),
    "a deep verdict": write("verdict.json", b"[" * 100_000),
    "a claim that is none": write("claim.json", b"\xff\xfe"),
    "a submission that is none": write(SUBMISSION, b"{"),
    "an outbox that is a file": write("outbox", b""),
    "a mark without a verdict": write("verdict.sent", b""),
    "a final message without an id": final(),
    "a final message with a strange id": final(headers={"zwrap-id": [1]}),
    "a final message that is never due": final(headers={}, delay_s=1e308),
    "a final message to nowhere": final(destination="../x"),
    "a final message to a long name": final(destination="é" * 200),
    "a verdict on another attempt": lambda path, _: write("verdict.json", verdict("u"))(path, ""),
    "a policy without bounds": policy,
    "a link": link,
    "nothing at all": lambda path, _: shutil.rmtree(path),
}


def ended_job(site: Site, ledger: Ledger, token: str) -> Path:
    """Add a job that has ended without a word of a wrapper; return its directory."""
    directory = JobDirectory(site.directory / "work" / token / ".zwrap" / token)
    directory.make()
    step = {"queue": "cluster.submission", "output": {"failure": 2}, "error": 3}
    recipe = {"start": [[1, []]], "1": step, "2": {"queue": "told"},
              "3": {"queue": "told", "transport-delay": HUGE}}  # fmt: skip
    body = Envelope(Recipe(recipe), 1, environment={"ID": "r"}).body()
    (directory.path / SUBMISSION).write_bytes(encode({"header": {}, "message": body}))
    ledger.reserve([Attempt(token=token, recipe_id="r", step=1, cluster="local", job_name="n",
                            job_directory=str(directory.path))])  # fmt: skip
    ledger.record({token: {"state": SUBMITTED, "job_id": "9" * 5, "seen_state": "timeout",
                           "ended": time.time() - 100}})  # fmt: skip
    return directory.path


def test_whatever_one_job_left_the_others_are_concluded_and_the_watcher_lives(
    site: Site, wait_until: Callable[..., Any]
) -> None:
    ledger = Ledger.in_file(site.directory / "state" / "ledger.sqlite")
    for number, (kind, leave) in enumerate(LEFT.items()):
        leave(ended_job(site, ledger, f"bad{number}"), f"bad{number}")
        ended_job(site, ledger, f"good{number}")
        assert kind
    watcher = site.service("Watcher")
    transport = site.transport()
    for memory_mib in (HUGE, -1, "much", None, [1]):
        transport.broadcast(STATUS_TOPIC, {"token": "good0", "memory_mib": memory_mib})
    transport.broadcast(STATUS_TOPIC, {"token": {"a": [HUGE]}})

    def good() -> bool:
        rows = [row for row in ledger.queries.newest(10_000) if row.token.startswith("good")]
        return all(row.outcome == "failure" for row in rows)

    def bad() -> bool:
        rows = [row for row in ledger.queries.newest(10_000) if row.token.startswith("bad")]
        return sum(row.outcome is not None for row in rows) >= len(LEFT) - 1

    wait_until(good, 60)
    wait_until(bad, 60)
    assert watcher.poll() is None
    assert "Traceback" not in site.logs()
    unknown = {row.token for row in ledger.queries.newest(10_000) if row.outcome == "unknown"}
    names = list(LEFT)
    assert {names[int(token.removeprefix("bad"))] for token in unknown} == {
        "a submission that is none", "a link", "nothing at all"
    }  # fmt: skip
    transport.close()
    ledger.close()
