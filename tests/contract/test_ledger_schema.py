"""Upgrades of ledgers of earlier releases, on a file and on a real PostgreSQL."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.config import Config
from alembic.script import ScriptDirectory

from zwrap.attempt.ledger import upgrading
from zwrap.attempt.ledger.faults import NewerLedgerError, UnusableLedgerError
from zwrap.attempt.ledger.ledger import Ledger
from zwrap.attempt.ledger.tables import metadata
from zwrap.attempt.ledger.version import HEAD, REVISIONS, VERSION, missing_indexes
from zwrap.attempt.record import SUBMITTED, Attempt
from zwrap.cli import zwrap
from zwrap.errors import OutageError

FIRST = """
create table attempts (token varchar(80) not null primary key, recipe_id varchar(80), step integer,
  cluster varchar(80) not null, job_name varchar(255) not null, job_directory text not null,
  job_id varchar(80), state varchar(20) not null, reason text, created float not null,
  tried float not null)
"""
"""The table of the first release."""

LATER = (
    "held float, array_token varchar(80), task integer, seen_state varchar(20), outcome varchar(20)"
)
"""Columns that a later one has added."""

ROWS = 2000


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/ledger"
        return
    yield request.getfixturevalue("empty_postgresql")["url"]


@contextlib.contextmanager
def connected(url: str) -> Iterator[sa.Connection]:
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.begin() as connection:
        yield connection


def make_old(url: str, *later: str, rows: int = ROWS) -> None:
    """Make a ledger of an earlier release."""
    with connected(url) as connection:
        if url.startswith("sqlite"):
            connection.exec_driver_sql("pragma journal_mode=wal")
        connection.execute(sa.text(FIRST))
        for column in later:
            connection.execute(sa.text(f"alter table attempts add column {column}"))
        connection.execute(
            sa.text("insert into attempts values (:t, 'r', 1, 'c', 'n', '/d', :t, 'submitted', "
                    "null, :n, :n" + ", null" * len(later) + ")"),
            [{"t": f"t{n:05}-1", "n": float(n)} for n in range(rows)],
        )  # fmt: skip


def shape(url: str) -> dict[str, Any]:
    """Return columns, keys and indexes of all tables."""
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    there = sa.inspect(engine)
    return {
        name: (
            sorted((c["name"], str(c["type"]), c["nullable"]) for c in there.get_columns(name)),
            there.get_pk_constraint(name)["constrained_columns"],
            sorted((i["name"], i["column_names"], {k: str(v) for k, v in
                                                   i.get("dialect_options", {}).items()})
                   for i in there.get_indexes(name)),
        )
        for name in (*metadata.tables, VERSION.name)
    }  # fmt: skip


def version(url: str) -> str | None:
    with connected(url) as connection:
        if not sa.inspect(connection).has_table(VERSION.name):
            return None
        [found] = connection.execute(sa.select(VERSION.c.version_num)).scalars().all()
    return str(found)


def drop_all(url: str) -> None:
    with connected(url) as connection:
        for name in (*metadata.tables, VERSION.name):
            connection.execute(sa.text(f"drop table {name}"))


@pytest.mark.parametrize("later", [(), tuple(LATER.split(", "))], ids=["first", "later"])
def test_an_upgraded_ledger_is_like_a_new_one(
    url: str, later: tuple[str, ...], tmp_path: Path
) -> None:
    with contextlib.closing(Ledger(url).open()):
        made = shape(url)
    assert version(url) == HEAD
    drop_all(url)
    (tmp_path / "ledger.mark").unlink(missing_ok=True)
    make_old(url, *later)
    with contextlib.closing(Ledger(url)) as ledger:
        assert len(ledger.queries.newest(ROWS + 1)) == ROWS
        assert ledger.open_clusters() == ["c"]
    found = shape(url)
    for name in made:
        assert found[name][1:] == made[name][1:], name
        kinds = [
            [(column, "FLOAT" if kind.startswith("DOUBLE") else kind, null)
             for column, kind, null in each[name][0]] for each in (found, made)
        ]  # fmt: skip
        assert kinds[0] == kinds[1], name
    assert version(url) == HEAD


def test_each_version_has_a_file_and_the_list_names_it() -> None:
    config = Config()
    config.set_main_option("script_location", str(upgrading.MIGRATIONS))
    scripts = ScriptDirectory.from_config(config).walk_revisions()
    assert tuple(each.revision for each in scripts)[::-1] == REVISIONS


def test_a_ledger_of_a_later_release_is_refused_and_left_as_it_is(url: str) -> None:
    with contextlib.closing(Ledger(url).open()):
        pass
    with connected(url) as connection:
        connection.execute(VERSION.update().values(version_num="0999"))
    before = shape(url)
    with contextlib.closing(Ledger(url)) as ledger:
        with pytest.raises(NewerLedgerError, match=r"has schema '0999', of a later release") as no:
            ledger.queries.newest(1)
        assert no.value.exit_status == 100
    assert (version(url), shape(url)) == ("0999", before)


OPEN = """
import contextlib, logging, sys
from zwrap.attempt.ledger.ledger import Ledger
logging.basicConfig()
sys.stdin.readline()
with contextlib.closing(Ledger(sys.argv[1]).open()) as ledger:
    print(len(ledger.queries.newest(100_000)))
"""


def opening(url: str) -> subprocess.Popen[str]:
    """Return a process that opens a ledger once it is told to."""
    return subprocess.Popen(
        [sys.executable, "-P", "-c", OPEN, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.mark.slow
def test_of_several_processes_one_upgrades_and_all_go_on(url: str, tmp_path: Path) -> None:
    make_old(url)
    processes = [opening(url) for _ in range(4)]
    told = [process.communicate("\n") for process in processes]
    assert [out for out, _ in told] == [f"{ROWS}\n"] * 4, told
    assert sum("is upgraded from schema 0000" in said for _, said in told) == 1
    assert version(url) == HEAD
    if url.startswith("sqlite"):
        [copy] = tmp_path.glob("ledger.before-*[0-9]")
        assert copy.stat().st_mode & 0o777 == 0o600
        with contextlib.closing(sqlite3.connect(copy)) as old:
            assert old.execute("select count(*) from attempts").fetchall() == [(ROWS,)]
            assert {name for (name,) in old.execute(
                "select name from sqlite_master where type = 'table'"
            )} == {"attempts"}  # fmt: skip


@pytest.mark.slow
def test_a_kill_at_any_moment_leaves_the_old_or_the_new_ledger(url: str) -> None:
    make_old(url, rows=20_000)
    killed = 0
    for tries in range(30):
        process = opening(url)
        assert process.stdin
        process.stdin.write("\n")
        process.stdin.flush()
        time.sleep(0.3 + 0.05 * tries)
        done = process.poll() is not None
        process.send_signal(signal.SIGKILL)
        process.communicate()
        found = version(url)
        assert found in (None, HEAD)
        with connected(url) as connection:
            names = {each["name"] for each in sa.inspect(connection).get_columns("attempts")}
            assert ("outcome" in names) == (found == HEAD)
            assert connection.scalar(sa.text("select count(*) from attempts")) == 20_000
            if url.startswith("sqlite"):
                assert connection.exec_driver_sql("pragma quick_check").scalar() == "ok"
        if done or found == HEAD:
            break
        killed += 1
    assert killed
    process = opening(url)
    assert process.communicate("\n")[0] == "20000\n"
    assert version(url) == HEAD


def limited(url: str, size: int) -> None:
    """Open a ledger where no file may grow beyond a size; exit with 7 in an outage."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    with pytest.raises(OutageError, match=r"The ledger .* cannot be (copied to|used)"):
        Ledger(url).open()
    os._exit(7)


def test_a_full_disk_leaves_the_old_ledger_and_one_sentence(tmp_path: Path) -> None:
    """Whether it is the copy that has no room, or the upgrade itself."""
    url = f"sqlite:///{tmp_path}/ledger"
    make_old(url)
    whole = (tmp_path / "ledger").stat().st_size
    assert whole > 100_000
    for size in (1000, whole // 2, whole + 4096):
        process = multiprocessing.get_context("fork").Process(target=limited, args=(url, size))
        process.start()
        process.join()
        assert process.exitcode == 7, size
        assert version(url) is None
        assert [*tmp_path.glob("*.part")] == []
        assert [*tmp_path.glob("ledger.before-*")] == []  # it takes room that the ledger lacks
    with contextlib.closing(Ledger(url)) as ledger:
        assert len(ledger.queries.newest(ROWS + 1)) == ROWS


def test_a_service_that_began_before_the_upgrade_goes_on(url: str) -> None:
    """It has the columns of its own release, and creates what that release has."""
    make_old(url)
    engine = sa.create_engine(url)
    old = sa.Table("attempts", sa.MetaData(), autoload_with=engine)
    with contextlib.closing(Ledger(url)) as ledger:
        ledger.open()
        with engine.begin() as connection:
            row = dict.fromkeys((column.name for column in old.columns), "1")
            connection.execute(old.insert().values({**row, "token": "u-1", "step": 1,
                                                    "created": 1e9, "tried": 1e9}))  # fmt: skip
            connection.execute(
                sa.text("create index if not exists ix_attempts_state on attempts (state)")
            )
            connection.execute(old.update().where(old.c.token == "u-1").values(state=SUBMITTED))
        [found] = ledger.queries.newest(1)
        assert (found.token, found.state, found.outcome) == ("u-1", SUBMITTED, None)
    engine.dispose()


def test_the_copies_that_are_kept_are_bounded(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/ledger"
    make_old(url)
    for earlier in ("0000", "0001"):
        (tmp_path / f"ledger.before-{earlier}").write_bytes(b"")
    with contextlib.closing(Ledger(url).open()):
        pass
    assert sorted(each.name for each in tmp_path.glob("ledger.before-*")) == [
        "ledger.before-0001", f"ledger.before-{HEAD}"
    ]  # fmt: skip


def test_a_ledger_that_is_up_to_date_loads_no_alembic(tmp_path: Path) -> None:
    code = (
        "import json, sys\nfrom zwrap.attempt.ledger.ledger import Ledger\n"
        "from pathlib import Path\n"
        "for _ in range(2):\n    Ledger.in_file(Path(sys.argv[1])).close()\n"
        "print(json.dumps([name for name in sys.modules if name.startswith('alembic')]))\n"
    )
    argv = [sys.executable, "-P", "-c", code, str(tmp_path / "ledger")]
    told = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
    assert json.loads(told) == []


def test_an_upgrade_is_told_in_one_line(url: str) -> None:
    """Alembic tells what it is made of, in six lines, to whoever types a command."""
    make_old(url)
    code = (
        "import logging, sys\nfrom zwrap.attempt.ledger.ledger import Ledger\n"
        "logging.basicConfig(level=logging.INFO)\nLedger(sys.argv[1]).open().close()\n"
    )
    argv = [sys.executable, "-P", "-c", code, url]
    told = subprocess.run(argv, check=True, capture_output=True, text=True).stderr
    [line] = told.splitlines()
    assert f"is upgraded from schema 0000 to {HEAD}" in line
    assert version(url) == HEAD


@pytest.mark.parametrize("has_secrets", [False, True])
def test_an_upgrade_closes_the_file_only_where_secrets_begin(
    has_secrets: bool, tmp_path: Path
) -> None:
    """A site may have opened the ledger that has secrets to a group of its own."""
    url = f"sqlite:///{tmp_path}/ledger"
    make_old(url)
    if has_secrets:
        with connected(url) as connection:
            connection.execute(sa.text("create table words (token text primary key, secret text)"))
    (tmp_path / "ledger").chmod(0o640)
    Ledger(url).open().close()
    assert (tmp_path / "ledger").stat().st_mode & 0o777 == (0o640 if has_secrets else 0o600)


@pytest.mark.slow
@pytest.mark.parametrize("begun", [False, True])
def test_a_database_user_without_rights_is_told_what_they_are(
    begun: bool, request: pytest.FixtureRequest
) -> None:
    """What a person is told to do about it touches no row."""
    url = request.getfixturevalue("postgresql")["url"]
    with connected(url) as connection:
        connection.execute(sa.text("drop table if exists attempts, words, ledger_schema"))
        connection.execute(sa.text("drop role if exists reader"))
        connection.execute(sa.text("create role reader login password 'reader'"))
    if begun:
        Ledger(url).open().close()
    limited = sa.make_url(url).set(username="reader", password="reader")
    with (
        contextlib.closing(Ledger(limited.render_as_string(hide_password=False))) as ledger,
        pytest.raises(UnusableLedgerError, match="permission denied") as told,
    ):
        ledger.open()
    assert "zwrap ledger upgrade as their owner" in str(told.value)
    assert "backup" not in str(told.value)


def test_the_indexes_that_a_ledger_lacks_are_known_and_made_again(url: str) -> None:
    with contextlib.closing(Ledger(url).open()) as ledger:
        with ledger.database.begin() as connection:
            assert missing_indexes(connection) == []
            names = sorted(
                index["name"] for index in sa.inspect(connection).get_indexes("attempts")
            )
            for name in names:
                connection.execute(sa.text(f"drop index {name}"))
        with ledger.database.begin() as connection:
            assert sorted(str(each.name) for each in missing_indexes(connection)) == names
        ledger.database.complete()
        with ledger.database.begin() as connection:
            assert missing_indexes(connection) == []


def test_rows_of_a_new_ledger_are_written_at_once(url: str) -> None:
    with contextlib.closing(Ledger(url)) as ledger:
        row = Attempt(
            token="t-1", recipe_id="r", step=1, cluster="c", job_name="n", job_directory="/d"
        )
        assert len(ledger.reserve([row])) == 1
    assert version(url) == HEAD


@pytest.mark.slow
def test_the_commands_for_operators_work_on_a_server(
    postgresql: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    url = postgresql["url"]
    with connected(url) as connection:
        connection.execute(sa.text("drop table if exists attempts, words, ledger_schema"))
    site = tmp_path / "site.yml"
    section = f"version: 1\nenvironments: {{default: [l]}}\nl: {{plugin: ledger, url: '{url}'}}\n"
    site.write_text(section)
    monkeypatch.setenv("ZOCALO_CONFIG", str(site))
    assert zwrap.main(["ledger", "check"]) == 0
    assert "has no tables yet" in capsys.readouterr().out
    make_old(url)
    assert zwrap.main(["ledger", "check"]) == 0
    assert "schema 0000, of an earlier release" in capsys.readouterr().out
    assert version(url) is None
    assert zwrap.main(["ledger", "upgrade", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["before"], told["schema"]) == ("0000", HEAD)
    assert ":rig@" not in told["ledger"]
    assert zwrap.main(["ledger", "check", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["attempts"]["number"], told["open"]["number"]) == (ROWS, ROWS)
    assert told["size_bytes"] > 0
    assert zwrap.main(["ledger", "backup", str(tmp_path / "copy")]) == 100
    assert "on a database server, whose own means copy it" in capsys.readouterr().err
    assert zwrap.main(["ledger", "create"]) == 100
    with connected(url) as connection:
        connection.execute(sa.text("drop table attempts"))
    for line in ("jobs", "ledger check"):
        assert zwrap.main(line.split()) == 100, line
        said = capsys.readouterr().err
        assert "Traceback" not in said
        assert "cannot be used" in said
    site.write_text(section.replace(f":{postgresql['port']}/", ":1/"))
    for line in ("jobs", "ledger check", "ledger upgrade"):
        assert zwrap.main(line.split()) == 111, line
        assert "cannot be used" in capsys.readouterr().err
