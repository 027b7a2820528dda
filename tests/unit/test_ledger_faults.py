"""A ledger that is damaged or gone is one sentence, in every command and service."""

from __future__ import annotations

import concurrent.futures
import contextlib
import itertools
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from zwrap.attempt.ledger import database
from zwrap.attempt.ledger.faults import UnusableLedgerError
from zwrap.attempt.ledger.ledger import Ledger
from zwrap.attempt.ledger.place import default_file, mark_of
from zwrap.attempt.ledger.version import HEAD
from zwrap.attempt.record import SUBMITTED, Attempt
from zwrap.cli import service, zwrap
from zwrap.configuration.site import Configuration
from zwrap.errors import OutageError
from zwrap.service.submitter import Submitter
from zwrap.service.watcher.watcher import Watcher
from zwrap.transport.connect import connect
from zwrap.transport.contract import Transport

ROWS = 500


def attempt(number: int) -> Attempt:
    return Attempt(
        token=f"t{number}-1", recipe_id="r", step=1, cluster="local", job_name="n",
        job_directory="/nowhere", created=number + 1.0,
    )  # fmt: skip


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    """Return the ledger of the site, with some rows."""
    made = Ledger.of(Configuration())
    rows = made.reserve([attempt(number) for number in range(ROWS)])
    made.record({
        row.token: {"state": SUBMITTED, "job_id": str(number), "outcome": "success"}
        for number, row in enumerate(rows)
    })  # fmt: skip
    with contextlib.closing(sqlite3.connect(default_file())) as connection:
        connection.execute("pragma wal_checkpoint(truncate)")
    yield made
    made.close()


def truncate(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def empty(file: Path) -> None:
    os.truncate(file, 0)


def garbage(file: Path) -> None:
    with file.open("r+b") as opened:
        opened.write(b"no database" * 2000)


def hole(file: Path) -> None:
    """Damage all pages but the first ones."""
    with file.open("r+b") as opened:
        opened.seek(3 * 4096)
        opened.write(b"\xff" * (file.stat().st_size - 3 * 4096))


def remove(file: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        Path(f"{file}{suffix}").unlink(missing_ok=True)


def replace(file: Path) -> None:
    """Put another ledger in its place, as a person does who restores a backup."""
    remove(file)
    other = file.with_name("other")
    Ledger(f"sqlite:///{other}").open().close()
    other.rename(file)


def move_away(file: Path) -> None:
    file.parent.rename(file.parent.with_name("away"))


DAMAGES: dict[str, Callable[[Path], None]] = {
    each.__name__: each for each in (truncate, empty, garbage, hole, remove)
}

COMMANDS = [
    "jobs", "jobs --json", "jobs 17", "jobs --state failure", "jobs advise", "cancel 17",
    "resubmit 17", "check --security", "ledger check", "ledger check --json", "ledger upgrade",
    "ledger backup BACKUP",
]  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_says_it_in_one_sentence(
    line: str, damage: str, ledger: Ledger, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger.close()
    DAMAGES[damage](default_file())
    ended = zwrap.main(line.replace("BACKUP", str(tmp_path / "backup")).split())
    said = capsys.readouterr()
    assert "Traceback" not in said.err + said.out
    assert "sqlalche" not in said.err + said.out
    if ended == 0:  # a command that reads none of the damaged pages
        assert damage == "hole"
        assert not line.startswith("ledger")
        return
    assert ended in (1, 100, 111)
    assert str(default_file()) in said.err + said.out
    if line.startswith("ledger"):
        assert ended in (100, 111)
        assert len(said.err.splitlines()) == 1
    assert not (tmp_path / "backup").exists()
    if damage in ("empty", "remove"):
        assert "zwrap ledger create" in said.err + said.out
        assert not default_file().exists() or not default_file().stat().st_size


SERVICES = {"Submitter": Submitter, "Watcher": Watcher}


@pytest.fixture
def transport(tmp_path: Path) -> Iterator[Transport]:
    with connect(Configuration()) as made:
        yield made


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", SERVICES)
def test_no_service_begins_with_it(
    name: str, damage: str, ledger: Ledger, transport: Transport
) -> None:
    ledger.close()
    DAMAGES[damage](default_file())

    def begin() -> None:
        begun: Any = SERVICES[name](Configuration(), transport)
        with contextlib.closing(begun):
            begun._ledger.queries.newest(ROWS)  # which meets the damage in the middle, too

    with pytest.raises(UnusableLedgerError) as told:
        begin()
    assert told.value.exit_status == 100
    assert str(default_file()) in str(told.value)


@pytest.mark.parametrize("damage", [*DAMAGES, "replace", "move_away"])
@pytest.mark.parametrize("name", SERVICES)
def test_a_running_service_finds_it(
    name: str, damage: str, ledger: Ledger, transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it remembers of the file hides no damage."""
    running: Any = SERVICES[name](Configuration(), transport)
    look = running.idle if name == "Submitter" else running._look
    look()
    assert len(running._ledger.queries.newest(ROWS)) == ROWS
    ledger.close()
    monkeypatch.setattr(database, "LOOK_S", 0.0)
    {**DAMAGES, "replace": replace, "move_away": move_away}[damage](default_file())
    if damage == "hole":
        running._ledger.database.engine.dispose()
        look = lambda: running._ledger.queries.newest(ROWS)  # noqa: E731
    if damage == "truncate":
        look()  # it might be a moment in which the file grows
    with pytest.raises(UnusableLedgerError, match=str(default_file())):
        look()
    with contextlib.suppress(OutageError):
        running.close()


def test_a_ledger_that_is_put_back_is_used_again(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "LOOK_S", 0.0)
    file = default_file()
    file.rename(file.with_name("away"))
    with pytest.raises(UnusableLedgerError, match="was removed or replaced while it was in use"):
        ledger.reserve([attempt(9999)])
    file.with_name("away").rename(file)
    assert len(ledger.reserve([attempt(9999)])) == 1
    ledger.database.look()


def test_the_state_directory_of_a_ledger_that_is_gone_gets_no_empty_one(
    ledger: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger.close()
    remove(default_file())
    with pytest.raises(UnusableLedgerError, match="is gone, or empty: there was one"):
        Ledger.of(Configuration())
    assert not default_file().exists()
    assert zwrap.main(["ledger", "create"]) == 0
    assert "is new and empty" in capsys.readouterr().out
    assert zwrap.main(["jobs"]) == 0
    assert mark_of(default_file()).exists()
    assert zwrap.main(["ledger", "create"]) == 100
    assert "There is a ledger" in capsys.readouterr().err


def test_the_spool_says_that_there_was_a_ledger_when_all_of_the_state_directory_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spool = tmp_path / "elsewhere"
    spool.mkdir()
    monkeypatch.setenv("ZWRAP_SPOOL", str(spool))
    Ledger.of(Configuration()).close()
    move_away(default_file())
    for line in ("jobs", "ledger check", "zocalo.service -s Submitter --once"):
        words = line.split()
        assert (service.main(words[1:]) if words[0] != "jobs" and len(words) > 2 else
                zwrap.main(words)) == 100  # fmt: skip
        assert f"there was one, as {spool}/.ledger-" in capsys.readouterr().err
    assert not default_file().exists()
    with connect(Configuration()) as transport:
        assert [each for each in transport.inspector().queues() if "ledger" in str(each)] == []
    assert zwrap.main(["ledger", "create"]) == 0
    assert zwrap.main(["jobs"]) == 0
    # Another ledger that shares the spool is a ledger of its own.
    monkeypatch.setenv("ZWRAP_STATE", str(tmp_path / "another"))
    Ledger.of(Configuration()).close()


def test_a_ledger_of_an_earlier_release_is_marked_by_the_first_use(ledger: Ledger) -> None:
    ledger.close()
    mark_of(default_file()).unlink()
    Ledger.of(Configuration()).close()
    assert mark_of(default_file()).stat().st_mode & 0o777 == 0o600


def test_check_tells_what_the_ledger_holds_and_what_hangs(
    ledger: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger.record({
        "t0-1": {"outcome": None, "ended": time.time() - 7200},
        "t1-1": {"outcome": None, "ended": time.time() - 60},
        "t2-1": {"outcome": None, "state": "intended", "tried": time.time() - 7200},
        "t3-1": {"outcome": None, "state": "intended"},
        "t4-1": {"outcome": None, "state": "waiting", "created": time.time() - 600},
    })  # fmt: skip
    assert zwrap.main(["ledger", "check", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["schema"], told["current"], told["attempts"]["number"]) == (HEAD, True, ROWS)
    numbers = {key: told[key]["number"] for key in ("open", "waiting", "in_doubt", "unconcluded")}
    assert numbers == {"open": 2, "waiting": 1, "in_doubt": 1, "unconcluded": 1}
    assert told["size_bytes"] == default_file().stat().st_size
    assert zwrap.main(["ledger", "check"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"good: {default_file()} is sound, ")
    assert "1 waiting for their batch systems, the oldest 10 minutes ago" in lines


def test_check_changes_no_ledger_of_an_earlier_release(
    capsys: pytest.CaptureFixture[str],
) -> None:
    default_file().parent.mkdir(parents=True, exist_ok=True)
    with contextlib.closing(sqlite3.connect(default_file())) as connection:
        connection.execute("create table attempts (token text, created float)")
        connection.execute("insert into attempts values ('t-1', 1.0)")
        connection.commit()
    before = default_file().read_bytes()
    assert zwrap.main(["ledger", "check"]) == 0
    assert "schema 0000, of an earlier release; the first service" in capsys.readouterr().out
    with contextlib.closing(sqlite3.connect(default_file())) as connection:
        assert connection.execute("select name from sqlite_master").fetchall() == [("attempts",)]
    assert len(default_file().read_bytes()) == len(before)


def test_a_backup_is_a_ledger_that_can_be_put_in_place(
    ledger: Ledger, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "backup"
    assert zwrap.main(["ledger", "backup", str(target), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == {"ledger": str(default_file()), "file": str(target),
                    "size_bytes": target.stat().st_size}  # fmt: skip
    assert target.stat().st_mode & 0o777 == 0o600
    assert zwrap.main(["ledger", "backup", str(target)]) == 100
    assert "a file that does not exist" in capsys.readouterr().err
    ledger.close()
    garbage(default_file())
    remove(default_file())
    shutil.copy(target, default_file())
    assert zwrap.main(["jobs", "17", "--json"]) == 0


def test_where_there_is_none_yet_check_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert zwrap.main(["ledger", "check"]) == 0
    assert "There is no ledger" in capsys.readouterr().out
    assert zwrap.main(["ledger", "upgrade"]) == 100
    assert zwrap.main(["ledger", "backup", "/tmp/none-is-made"]) == 100
    assert not default_file().exists()


def test_a_ledger_whose_end_is_in_its_log_is_not_damaged(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A reader holds up what goes from the log into the file, whose first page is there."""
    monkeypatch.setattr(database, "LOOK_S", 0.0)
    file = default_file()
    with (
        contextlib.closing(sqlite3.connect(file, isolation_level=None)) as writer,
        contextlib.closing(sqlite3.connect(file, isolation_level=None)) as reader,
    ):
        writer.execute("pragma wal_checkpoint(truncate)")
        writer.execute("create table big (x text)")
        writer.executemany("insert into big values (?)", [("a" * 3000,)] * 200)
        reader.execute("begin")
        assert reader.execute("select count(*) from big").fetchall() == [(200,)]
        writer.execute("update big set x = replace(x, 'a', 'b')")
        [(_, frames, moved)] = writer.execute("pragma wal_checkpoint(passive)").fetchall()
        assert moved < frames
        [(pages,)] = writer.execute("pragma page_count").fetchall()
        assert file.stat().st_size < pages * 4096
        for _ in range(3):
            ledger.database.look()
        assert zwrap.main(["ledger", "check"]) == 0
        assert "is sound" in capsys.readouterr().out


def test_who_meets_a_ledger_that_was_just_begun_does_not_call_it_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Submitter and Watcher of a new site start together: one makes the tables, and the mark."""
    real, met = database.version_of, []

    def version_of(connection: Any) -> str | None:
        found = real(connection)
        if not met:
            met.append(found)
            Ledger.of(Configuration()).close()
        return found

    monkeypatch.setattr(database, "version_of", version_of)
    with contextlib.closing(Ledger.of(Configuration())) as ledger:
        assert met == [None]
        assert mark_of(default_file()).exists()
        assert len(ledger.reserve([attempt(1)])) == 1


def test_a_backup_ends_while_somebody_writes(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy that is made in parts begins anew after each write, for ever at a busy site."""
    ended, written = threading.Event(), threading.Event()

    def write() -> None:
        for number in itertools.count():
            if ended.is_set():
                return
            ledger.record({f"t{each}-1": {"node": str(number)} for each in (0, ROWS - 1)})
            written.set()

    with contextlib.closing(sqlite3.connect(default_file())) as connection:
        connection.execute("create table big (x text)")
        connection.executemany("insert into big values (?)", [("a" * 3000,)] * 20_000)
        connection.commit()
    with concurrent.futures.ThreadPoolExecutor() as pool:
        writing = pool.submit(write)
        written.wait()
        try:
            assert zwrap.main(["ledger", "backup", str(tmp_path / "backup")]) == 0
        finally:
            ended.set()
        writing.result()
    with contextlib.closing(sqlite3.connect(tmp_path / "backup")) as copied:
        [(first,), (last,)] = copied.execute(
            "select node from attempts where token in (?, ?)", ("t0-1", f"t{ROWS - 1}-1")
        ).fetchall()
        assert first == last


def test_indexes_that_are_lost_are_named_and_made_again(
    ledger: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without them each answer is right, and takes longer with each year."""
    ledger.close()
    with contextlib.closing(sqlite3.connect(default_file())) as connection:
        connection.execute("drop index ix_attempts_created")
        connection.execute("drop index ix_attempts_open")
        connection.commit()
    assert zwrap.main(["ledger", "check"]) == 0
    assert "are missing (ix_attempts_created, ix_attempts_open)" in capsys.readouterr().out
    assert zwrap.main(["ledger", "upgrade"]) == 0
    capsys.readouterr()
    assert zwrap.main(["ledger", "check", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["lost_indexes"] == []


def test_a_ledger_that_is_there_needs_no_spool(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mark in the spool of another account, or of a server that is away, cannot be looked at."""
    ledger.close()
    mark_of(default_file()).unlink()
    monkeypatch.setenv("ZWRAP_SPOOL", str(tmp_path / ("x" * 300) / "spool"))
    with pytest.raises(OSError, match="name too long"):
        Path(os.environ["ZWRAP_SPOOL"]).exists()
    assert zwrap.main(["jobs", "-n", "1"]) == 0
    assert zwrap.main(["ledger", "check"]) == 0


@pytest.mark.parametrize("again", ["look", "open"])
def test_what_looks_at_a_ledger_takes_no_lock_of_its_process_away(
    again: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process that ended would remove the log into which this one writes."""
    file = tmp_path / "ledger.sqlite"
    ledger = Ledger.in_file(file)
    attempt = Attempt(
        token="t-1", recipe_id="r", step=1, cluster="c", job_name="n", job_directory=str(tmp_path)
    )
    ledger.reserve([attempt])
    if again == "look":
        monkeypatch.setattr(database, "LOOK_S", 0.0)
        ledger.database.look()
    else:
        Ledger.in_file(file).close()
    counted = (
        "import sqlite3, sys; rows = sqlite3.connect(sys.argv[1]); "
        "print(rows.execute('select count(*) from attempts').fetchone()[0]); rows.close()"
    )

    def seen_by_another() -> str:
        told = subprocess.run(
            [sys.executable, "-P", "-c", counted, str(file)],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        return told.stdout.strip()

    assert seen_by_another() == "1"
    ledger.reserve([msgspec.structs.replace(attempt, token="t-2")])
    assert seen_by_another() == "2"
    ledger.close()
