"""A verdict that comes as a message is believed only with the secret of its attempt."""

from __future__ import annotations

import json
import logging
import os
import re
import sqlite3
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec import to_builtins
from msgspec.structs import replace

from zwrap.attempt.directory import JobDirectory
from zwrap.attempt.ledger.ledger import Ledger
from zwrap.attempt.record import SUBMITTED
from zwrap.attempt.secret import PROOF_HEADER, SECRET, new_secret, proof_of, proves
from zwrap.attempt.verdict import Verdict
from zwrap.cli import zwrap
from zwrap.configuration.site import Configuration
from zwrap.job import Outcome
from zwrap.message.content import Outgoing
from zwrap.recipe.envelope import Envelope
from zwrap.recipe.graph import Recipe
from zwrap.service import submitter
from zwrap.service.loop import Loop
from zwrap.service.submitter import Submitter
from zwrap.service.watcher.watcher import Watcher
from zwrap.submission.pending import PendingJob
from zwrap.transport.memory import MemoryTransport
from zwrap.wrapper.telling import verdict_message

QUEUE = "zwrap.verdict"


class Far:
    """A site with a cluster whose job directories nobody here sees, and one job on it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.transport = MemoryTransport()
        clusters = {"far": {"kind": "local", "shared_filesystem": False}}
        text = {"version": 1, "c": {"plugin": "clusters", **clusters}}
        text["environments"] = {"default": ["c"]}
        self.configuration = Configuration.from_string(json.dumps(text)).activate()
        self.ledger = Ledger.of(self.configuration)
        self.scripts: list[Path] = []
        self.token = ""

    def send(self, **headers: Any) -> None:
        parameters = {
            "cluster": {"scheduler": "far", "commands": "env > $ZWRAP_JOB_DIRECTORY/env"},
            "workingdir": str(self.directory / "work"),
        }
        step = {"queue": "cluster.submission", "output": {"success": 2}, "parameters": parameters}
        body = Envelope(Recipe({"start": [[1, []]], "1": step, "2": {"queue": "q2"}}), 1).body()
        given = {"workflows-recipe": True, "zwrap-id": "an-id", **headers}
        self.transport.send("cluster.submission", body, given)
        Loop(Submitter(self.configuration, self.transport), self.transport, once=True).run()

    def taken(self, jobs: Sequence[PendingJob], ledger: Ledger) -> dict[str, str]:
        """Take jobs as a batch system does: it has a copy of each script."""
        for job in jobs:
            job.write()
            self.token = job.attempt.token
            copy = self.directory / f"script-{len(self.scripts)}"
            copy.write_bytes(job.script.read_bytes())
            assert job.script.stat().st_mode & 0o077 == 0, "the secret is in it"
            self.scripts.append(copy)
            ledger.reserve([job.attempt])
            ledger.record({self.token: {"state": SUBMITTED, "job_id": "7"}})
        return {job.attempt.token: "7" for job in jobs}

    def ran(self, script: Path) -> JobDirectory:
        """Run a script as a job on a node; return its job directory."""
        subprocess.run(["bash", str(script)], check=True, env={"PATH": os.environ["PATH"]})
        return JobDirectory(self.directory / "work" / ".zwrap" / self.token)

    def verdict(self, cause: str) -> Verdict:
        final = [Outgoing("q2", {"payload": cause}, {"zwrap-id": cause})]
        return Verdict(token=self.token, outcome=Outcome.SUCCESS, witness="wrapper", cause=cause,
                       job_id="7", exit_status=0, final=final)  # fmt: skip

    def tell(self, verdict: Verdict, proof: Any = None) -> None:
        """Send a verdict as whoever knows the token can."""
        headers = {} if proof is None else {PROOF_HEADER: proof}
        self.transport.send(QUEUE, to_builtins(verdict), headers)
        self.watch()

    def watch(self) -> None:
        Loop(Watcher(self.configuration, self.transport), self.transport, once=True).run()

    def said(self) -> list[Any]:
        entries = self.transport.broker.queues.get("q2", ())
        return [entry.message.body["payload"] for entry in entries]

    def refused(self) -> list[str]:
        return [each.reason for each in self.transport.broker.dead_letters.get(QUEUE, ())]


@pytest.fixture
def far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Far:
    monkeypatch.setattr("zwrap.service.loop.ONCE_WAIT_S", 0.01)
    place = Far(tmp_path)
    monkeypatch.setattr(
        submitter, "submit_all",
        lambda ledger, _, jobs, on_outcomes, *more: on_outcomes(
            list(place.taken(jobs, ledger).items())
        ),
    )  # fmt: skip
    return place


def secret_in(script: Path) -> str:
    [found] = set(re.findall(r"printf '%s' ([0-9a-f]{64})", script.read_text()))
    return str(found)


def test_a_forged_verdict_is_refused_and_the_real_one_counts(far: Far) -> None:
    """Whoever hears the heartbeats of a wrapper knows its token."""
    far.send()
    wrappers = far.verdict("finished")
    real = verdict_message(wrappers, QUEUE, "parent", far.ran(far.scripts[0]))
    proof = real.headers[PROOF_HEADER]
    for forged in (None, "", "0" * 64, 7, proof_of("guessed", to_builtins(far.verdict("forged"))),
                   proof, "\xe9"):  # fmt: skip
        far.tell(far.verdict("forged"), forged)
    assert far.said() == []
    assert len(far.refused()) == 7
    assert all(f"secret of attempt {far.token}" in reason for reason in far.refused())
    far.transport.commit([real])
    far.watch()
    assert far.said() == ["finished"]
    far.tell(far.verdict("forged"), proof)
    assert far.said() == ["finished"]


def test_the_secret_is_where_only_the_wrapper_reads_it(
    far: Far, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    far.send()
    secret = secret_in(far.scripts[0])
    directory = far.ran(far.scripts[0])
    file = directory.path / SECRET
    assert file.read_text() == secret
    assert file.stat().st_mode & 0o777 == 0o600
    assert secret not in (directory.path / "env").read_text()
    others = [each for each in directory.path.rglob("*") if each.is_file() and each != file]
    assert all(secret.encode() not in each.read_bytes() for each in others)
    message = verdict_message(far.verdict("finished"), QUEUE, "parent", directory)
    assert secret not in str(message)
    assert secret not in str(far.ledger.queries.newest(10_000))
    assert not list((far.directory / "state" / "scripts").iterdir())
    far.tell(far.verdict("forged"), "0" * 64)
    for arguments in (["jobs", "--json"], ["jobs", far.token]):
        zwrap.main(arguments)
    assert far.token[:8] in (shown := capsys.readouterr().out)
    assert secret not in shown + caplog.text + str(far.refused())


def test_a_file_that_lies_where_the_secret_comes_is_replaced(far: Far) -> None:
    """A process that has opened the file before would read the secret otherwise."""
    far.send()
    place = far.directory / "work" / ".zwrap" / far.token
    place.mkdir(parents=True)
    (place / SECRET).write_text("planted")
    (place / SECRET).chmod(0o666)
    with (place / SECRET).open() as opened:
        far.ran(far.scripts[0])
        assert opened.read() == "planted"
    assert (place / SECRET).stat().st_mode & 0o777 == 0o600


def test_each_attempt_has_a_secret_of_its_own_and_keeps_it(far: Far) -> None:
    """A script that was written again for the same attempt brings the first secret."""
    far.send()
    far.send(**{"zwrap-attempt": 2})
    far.send(**{"zwrap-attempt": 2})
    first, second, again = map(secret_in, far.scripts)
    assert first != second == again


def test_a_job_of_an_earlier_release_is_believed_and_counted(far: Far) -> None:
    far.send()
    assert far.ledger.remote.trusting() == 0
    with sqlite3.connect(far.directory / "state" / "ledger.sqlite") as rows:
        rows.execute("update words set secret = null")
    rows.close()
    assert far.ledger.remote.trusting() == 1
    far.send()  # once more, after a crash: the earlier script may be with the batch system
    assert far.ledger.remote.trusting() == 1
    far.tell(far.verdict("finished"))
    assert (far.said(), far.refused()) == (["finished"], [])
    far.ledger.record({far.token: {"outcome": "success"}})
    assert far.ledger.remote.trusting() == 0


def test_a_wrapper_without_a_secret_sends_its_verdict_as_before(far: Far) -> None:
    directory = JobDirectory(far.directory / "job")
    directory.make()
    message = verdict_message(far.verdict("finished"), QUEUE, "parent", directory)
    assert PROOF_HEADER not in message.headers


def test_a_verdict_that_notes_a_late_refusal_is_signed_anew(far: Far) -> None:
    far.send()
    directory = far.ran(far.scripts[0])
    first = far.verdict("finished")
    noted = replace(first, cause="Reported as a success; afterwards: A result was refused: x")
    for verdict in (first, noted):
        far.transport.commit([verdict_message(verdict, QUEUE, "parent", directory)])
        far.watch()
    kept = far.ledger.remote.get(far.token)
    assert kept
    assert kept.verdict == noted
    assert far.refused() == []


def test_a_proof_holds_for_one_secret_and_one_body() -> None:
    one, two = new_secret(), new_secret()
    assert one != two
    assert proves(proof_of(one, {"a": 1, "b": 2}), one, {"b": 2, "a": 1})
    assert not proves(proof_of(one, {"a": 1}), one, {"a": 2})
    assert not proves(proof_of(one, {"a": 1}), two, {"a": 1})
