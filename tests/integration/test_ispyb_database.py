"""ISPyB's database in a real MariaDB: transactions, what is away, and what is written once."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from zwrap.cli.zwrap import main
from zwrap.errors import ConfigurationError, MessageError, OutageError
from zwrap.service.ispyb import database as module
from zwrap.service.ispyb.database import ANSWER_S, LOCK_S, STATEMENT_S, Database, HinderedError
from zwrap.service.ispyb.numbers import NUMBERS, TRIED, Fault
from zwrap.service.ispyb.once import NAME, SLICE, Key, Once, begin, ddl, finish

from ..database import Collected, Database as Tables
from ..proxy import proxied

pytestmark = pytest.mark.slow


OPEN: list[Database] = []


@pytest.fixture(autouse=True)
def no_connection_is_left() -> Iterator[None]:
    yield
    while OPEN:
        OPEN.pop().close()


def opened(tables: Tables, **other: Any) -> Database:
    OPEN.append(Database(tables.url.set(**other)))
    return OPEN[-1]


@pytest.fixture
def database(ispyb: Tables) -> Database:
    return opened(ispyb)


@pytest.fixture
def once(ispyb: Tables, database: Database) -> Once:
    make_table(ispyb)
    return Once(database)


def make_table(tables: Tables) -> None:
    with tables.engine.connect() as connection:
        for statement in ddl().removesuffix(";").split("; "):
            connection.exec_driver_sql(statement)


def run(database: Database, *statements: str) -> None:
    with database.transaction() as connection:
        for each in statements:
            connection.exec_driver_sql(each)


def add_program(connection: sa.Connection, tables: Tables, name: str = "xia2") -> None:
    connection.execute(tables.table("AutoProcProgram").insert().values(processingPrograms=name))


def programs(tables: Tables) -> list[str]:
    return [row["processingPrograms"] for row in tables.rows("AutoProcProgram")]


# -- the rig -------------------------------------------------------------------------------------


def test_a_database_begins_with_a_data_collection_and_no_other_rows(
    ispyb: Tables, collected: Collected
) -> None:
    assert ispyb.row("DataCollection")["dataCollectionId"] == collected.collection
    with ispyb.engine.connect() as connection:
        connection.exec_driver_sql("CREATE TABLE of_a_test (id INT)")
    ispyb.empty()
    assert ispyb.rows("DataCollection") == []
    with ispyb.engine.connect() as connection:
        [names] = zip(*connection.exec_driver_sql("SHOW TABLES").all(), strict=True)
    assert sorted(names) == sorted(ispyb.metadata.tables)


# -- sessions ------------------------------------------------------------------------------------


def test_a_session_cuts_no_value_and_waits_for_no_lock_for_long(database: Database) -> None:
    asked = (
        "SELECT @@sql_mode, @@tx_isolation, @@innodb_lock_wait_timeout, @@lock_wait_timeout, "
        "@@max_statement_time, @@wsrep_sync_wait"
    )
    with database.transaction() as connection:
        mode, *others = connection.exec_driver_sql(asked).one()
    assert "STRICT_ALL_TABLES" in mode.split(",")
    # This server is no node of Galera.
    assert others == ["READ-COMMITTED", LOCK_S, LOCK_S, STATEMENT_S, 0]
    assert STATEMENT_S < ANSWER_S


def test_every_character_of_a_text_is_kept(ispyb: Tables, database: Database) -> None:
    text = "\N{GREEK SMALL LETTER ALPHA}-helix \N{SNOWMAN} \N{DNA DOUBLE HELIX} ' \" \\ %s \n"
    with database.transaction() as connection:
        add_program(connection, ispyb, text)
    assert programs(ispyb) == [text]


# -- numbers -------------------------------------------------------------------------------------

STATEMENTS: dict[int, tuple[str, ...]] = {
    1048: ("INSERT INTO AutoProcProgram (autoProcProgramId) VALUES (1)",
           "INSERT INTO AutoProcProgramAttachment (autoProcProgramId) VALUES (NULL)"),
    1054: ("INSERT INTO AutoProc (nowhere) VALUES (1)",),
    1062: ("INSERT INTO AutoProc (autoProcId) VALUES (1)",
           "INSERT INTO AutoProc (autoProcId) VALUES (1)"),
    1146: ("SELECT * FROM Nowhere",),
    1264: ("INSERT INTO AutoProc (refinedCell_a) VALUES (1e200)",),
    1265: ("INSERT INTO DataCollectionGroup (experimentType, sessionId) SELECT 'x', 1",),
    1292: ("INSERT INTO AutoProcProgram (recordTimeStamp) VALUES ('2026-13-45')",),
    1364: ("INSERT INTO DataCollectionGroup (experimentType) VALUES ('SAD')",),
    1366: ("INSERT INTO AutoProc (autoProcProgramId) VALUES ('x')",),
    1406: (f"INSERT INTO AutoProc (spaceGroup) VALUES ('{'x' * 300}')",),
    1451: ("INSERT INTO AutoProcProgram (autoProcProgramId) VALUES (1)",
           "INSERT INTO AutoProcProgram (parentAutoProcProgramId) VALUES (1)",
           "DELETE FROM AutoProcProgram WHERE autoProcProgramId = 1"),
    1452: ("INSERT INTO AutoProcIntegration (dataCollectionId) VALUES (2147483647)",),
    1644: ("SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'No.'",),
    1792: ("COMMIT", "START TRANSACTION READ ONLY", "DELETE FROM AutoProc"),
    1969: ("SELECT SUM(seq % 3) FROM seq_1_to_100000000000",),
    1317: ("KILL QUERY CONNECTION_ID()",),
    1927: ("KILL CONNECTION_ID()",),
    4025: ("CREATE TABLE of_a_test (a INT CHECK (a > 0))", "INSERT INTO of_a_test VALUES (0)"),
}  # fmt: skip
"""Error number to the statements after which the server tells it."""

OTHERS: dict[int, dict[str, Any]] = {
    1044: {"database": "mysql", "username": "weak"},
    1045: {"password": "wrong"},
    1049: {"database": "nowhere"},
    1142: {"username": "weak"},
    1290: {"username": "weak"},
    2003: {"port": 1},
}
"""Error number to what another URL has, so that it is told at the first DELETE."""

ELSEWHERE = {1040, 1205, 1213, 2013, 2055, 3024}
"""Error numbers of the tests further below."""


def test_every_number_that_was_seen_is_seen_here() -> None:
    seen = {each.number for each in NUMBERS if each.source == TRIED}
    assert seen == {*STATEMENTS, *OTHERS, *ELSEWHERE}


def is_told(number: int, database: Database, *texts: str) -> None:
    """Check that statements end as the table says, in the right type and words."""
    [entry] = [each for each in NUMBERS if each.number == number]
    kind = MessageError if entry.fault is Fault.MESSAGE else OutageError
    with pytest.raises(kind, match=rf"error {number}, ") as caught:
        run(database, *texts)
    assert entry.remark in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("number", STATEMENTS)
def test_a_statement_ends_as_the_table_of_numbers_says(
    number: int, collected: Collected, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    if number == 1969:
        monkeypatch.setitem(module._SOME, "max_statement_time", "SET max_statement_time = 0.2")
    is_told(number, database, *STATEMENTS[number])
    run(database, "DELETE FROM AutoProc")  # goes on, on another connection if need be


@pytest.mark.parametrize("number", OTHERS)
def test_a_connection_ends_as_the_table_of_numbers_says(
    number: int, ispyb: Tables, database: Database
) -> None:
    user = "weak@'127.0.0.1'"
    run(database, f"CREATE USER {user} IDENTIFIED BY 'rig'", f"GRANT SELECT ON ispyb.* TO {user}")
    if number == 1290:
        run(database, f"GRANT DELETE ON ispyb.* TO {user}", "SET GLOBAL read_only = 1")
    other = opened(ispyb, **OTHERS[number])
    try:
        is_told(number, other, "DELETE FROM AutoProc")
    finally:
        run(database, "SET GLOBAL read_only = 0", f"DROP USER {user}")


def test_too_many_connections_are_told(ispyb: Tables, database: Database) -> None:
    user = "many@'127.0.0.1'"
    run(database, f"CREATE USER {user} IDENTIFIED BY 'rig'")
    with database.transaction() as connection:
        [most] = connection.exec_driver_sql("SELECT @@max_connections").one()
        connection.exec_driver_sql("SET GLOBAL max_connections = 10")
    engine = sa.create_engine(ispyb.url, pool_size=12, connect_args=module._CONNECT)
    held: list[object] = []

    def hold() -> None:
        while True:
            held.append(engine.connect())

    try:
        with pytest.raises(sa.exc.DBAPIError):
            hold()
        other = opened(ispyb, username="many", database="information_schema")
        is_told(1040, other, "SELECT 1")
    finally:
        run(database, f"SET GLOBAL max_connections = {most}", f"DROP USER {user}")
        engine.dispose()


def test_a_collation_that_the_server_does_not_know_is_told(
    ispyb: Tables, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(module._CONNECT, "collation", "utf8mb4_0900_ai_ci")
    with pytest.raises(OutageError, match="cannot be used: Collation 'utf8mb4_0900_ai_ci' unknown"):
        opened(ispyb).transact(lambda connection: None)


def test_a_refused_statement_names_table_column_and_value(
    ispyb: Tables, database: Database
) -> None:
    long = {"spaceGroup": "x" * 300, "refinedCell_a": 1.0}
    with pytest.raises(MessageError) as caught, database.transaction() as connection:
        connection.execute(ispyb.table("AutoProc").insert().values(long))
    text = str(caught.value)
    assert text.startswith("The message: the database refuses AutoProc.spaceGroup = 'xxxx")
    assert len(text) < 300

    def work(connection: sa.Connection) -> None:
        strange = {"dataCollectionId": 2**31 - 1}
        try:
            connection.execute(ispyb.table("AutoProcIntegration").insert().values(strange))
        except sa.exc.DBAPIError as error:
            error.add_note("Command 'upsert_integration'")
            raise

    with pytest.raises(MessageError) as caught:
        database.transact(work)
    assert str(caught.value).startswith(
        "Command 'upsert_integration': the database refuses AutoProcIntegration.dataCollectionId = "
        "2147483647: "
    )


# -- transactions --------------------------------------------------------------------------------


def test_what_was_done_before_an_error_is_taken_back(ispyb: Tables, database: Database) -> None:
    def work(connection: sa.Connection) -> None:
        add_program(connection, ispyb)
        raise MessageError("No.")

    with pytest.raises(MessageError, match=r"No\."):
        database.transact(work)
    assert programs(ispyb) == []


def test_a_deadlock_is_done_again(ispyb: Tables, database: Database) -> None:
    rows = [ispyb.insert("AutoProcProgram", processingPrograms="") for _ in range(2)]
    table, both = ispyb.table("AutoProcProgram"), threading.Barrier(2)
    tries: list[int] = []

    def change(mine: int) -> None:
        def work(connection: sa.Connection) -> None:
            tries.append(mine)
            for number in (rows[mine], rows[1 - mine]):
                of_row = table.update().where(table.c.autoProcProgramId == number)
                text = table.c.processingPrograms + str(mine)
                connection.execute(of_row.values(processingPrograms=text))
                if tries.count(mine) == 1 and number == rows[mine]:
                    both.wait(20)

        database.transact(work)

    with ThreadPoolExecutor() as threads:
        list(threads.map(change, range(2)))
    assert sorted("".join(sorted(each)) for each in programs(ispyb)) == ["01", "01"]
    assert len(tries) == 3


def test_a_row_that_another_transaction_holds_for_long_is_an_outage(
    ispyb: Tables, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REPEATS", 1)
    ispyb.insert("AutoProcProgram", processingPrograms="a")
    tries: list[float] = []

    def work(connection: sa.Connection) -> None:
        tries.append(time.monotonic())
        connection.exec_driver_sql("SET SESSION innodb_lock_wait_timeout = 1")
        connection.exec_driver_sql("UPDATE AutoProcProgram SET processingPrograms = 'b'")

    with database.transaction() as holding:
        holding.exec_driver_sql("UPDATE AutoProcProgram SET processingPrograms = 'c'")
        with pytest.raises(HinderedError, match="error 1205, another transaction holds a row"):
            database.transact(work)
    assert len(tries) == 2
    assert programs(ispyb) == ["c"]


@pytest.mark.parametrize("text", ["x" * (16 << 20), "\n" * (9 << 20), "\u20ac" * (6 << 20)])
def test_a_statement_that_the_server_would_not_take_is_refused_before(
    ispyb: Tables, database: Database, text: str
) -> None:
    """The server ends the connection, which would hold up all messages like an outage."""
    values = {"name": "a", "contents": text}
    with pytest.raises(MessageError, match=r"bytes, and the database 127.0.0.1 accepts 16777216"):
        database.transact(lambda one: one.execute(ispyb.table("PDB").insert(), values))
    values["contents"] = text[: len(text) * 7 // 8]
    database.transact(lambda one: one.execute(ispyb.table("PDB").insert(), values))
    assert ispyb.row("PDB")["contents"] == values["contents"]


def kill_connections(tables: Tables) -> None:
    """End the connections of everybody else, as a server does with those that are idle."""
    with tables.engine.connect() as connection:
        asked = "SELECT id FROM information_schema.PROCESSLIST WHERE id <> CONNECTION_ID()"
        for [number] in connection.exec_driver_sql(asked).all():
            connection.exec_driver_sql(f"KILL {number}")


def test_a_connection_that_was_dropped_meanwhile_is_not_noticed(
    ispyb: Tables, database: Database
) -> None:
    database.transact(lambda connection: add_program(connection, ispyb, "first"))
    kill_connections(ispyb)
    with database.transaction() as connection:  # is not done again
        add_program(connection, ispyb, "second")
    assert programs(ispyb) == ["first", "second"]


def test_a_backlog_is_written_without_a_question_before_each_transaction(
    ispyb: Tables, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is lost between two transactions is cleared up by doing the second one again."""
    asked: list[object] = []
    ping = database._engine.dialect.do_ping
    monkeypatch.setattr(
        database._engine.dialect, "do_ping", lambda driver: asked.append(driver) or ping(driver)
    )
    for name in "abc":
        database.transact(lambda connection, name=name: add_program(connection, ispyb, name))
    assert asked == []
    kill_connections(ispyb)
    database.transact(lambda connection: add_program(connection, ispyb, "d"))
    monkeypatch.setattr(module, "IDLE_S", 0)
    database.transact(lambda connection: add_program(connection, ispyb, "e"))
    assert len(asked) == 1
    assert programs(ispyb) == list("abcde")


def test_a_server_that_is_silent_is_an_outage_in_time(
    ispyb: Tables, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(module._CONNECT, "read_timeout", 1)
    monkeypatch.setitem(module._CONNECT, "connection_timeout", 1)
    with proxied(ispyb.credentials["port"]) as proxy:
        database = opened(ispyb, port=proxy.port)
        began = time.monotonic()

        def work(connection: sa.Connection) -> None:
            add_program(connection, ispyb)
            proxy.silence()
            add_program(connection, ispyb)

        with pytest.raises(OutageError, match="error 3024, the server did not answer in time"):
            database.transact(work)
        assert time.monotonic() - began < 5
        with pytest.raises(OutageError, match="cannot be used"):  # nor is there a new connection
            database.transact(lambda connection: add_program(connection, ispyb))
        assert time.monotonic() - began < 10
    assert programs(ispyb) == []


# -- once ----------------------------------------------------------------------------------------


def write(database: Database, tables: Tables, key: Key, name: str = "xia2") -> dict[str, object]:
    """Write a row for a message as the service does; return its answer."""

    def work(connection: sa.Connection) -> dict[str, object]:
        known = begin(connection, key)
        if known is not None:
            return known
        add_program(connection, tables, name)
        finish(connection, key, {"wrote": name})
        return {"wrote": name}

    return database.transact(work)


@pytest.mark.parametrize("when", ["unsent", "answered"])
@pytest.mark.parametrize("key", [Key("a"), Key("a", "first")])
def test_a_connection_lost_during_commit_is_cleared_up(
    when: str, key: Key, ispyb: Tables, once: Once
) -> None:
    with proxied(ispyb.credentials["port"]) as proxy:
        database = opened(ispyb, port=proxy.port)
        once_there = Once(database)
        once_there.available()
        proxy.cut_at("COMMIT", when)
        assert write(database, ispyb, key) == {"wrote": "xia2"}
        assert proxy.cut == 1
    assert programs(ispyb) == ["xia2"]
    assert write(opened(ispyb), ispyb, Key("a"), "again") == {"wrote": "xia2"}


@pytest.mark.parametrize("statement", ["INSERT INTO `AutoProcProgram`", "UPDATE zwrap_messages"])
def test_a_connection_lost_before_commit_is_cleared_up(
    statement: str, ispyb: Tables, once: Once
) -> None:
    with proxied(ispyb.credentials["port"]) as proxy:
        database = opened(ispyb, port=proxy.port)
        database.transact(lambda connection: None)
        proxy.cut_at(statement)
        assert write(database, ispyb, Key("a")) == {"wrote": "xia2"}
        assert proxy.cut == 1
    assert programs(ispyb) == ["xia2"]


def test_two_transactions_at_once_write_a_message_once(ispyb: Tables, once: Once) -> None:
    databases = [opened(ispyb) for _ in range(4)]
    together = threading.Barrier(len(databases))

    def work(database: Database) -> list[dict[str, object]]:
        answers = []
        for number in range(20):
            together.wait(20)
            answers.append(write(database, ispyb, Key(str(number)), str(number)))
        return answers

    with ThreadPoolExecutor() as threads:
        answers = list(threads.map(work, databases))
    assert answers == [[{"wrote": str(number)} for number in range(20)]] * len(databases)
    assert sorted(programs(ispyb), key=int) == [str(number) for number in range(20)]


def test_a_message_that_fails_leaves_no_trace(
    ispyb: Tables, once: Once, database: Database
) -> None:
    def work(connection: sa.Connection) -> None:
        assert begin(connection, Key("a")) is None
        add_program(connection, ispyb)
        raise MessageError("No.")

    with pytest.raises(MessageError):
        database.transact(work)
    assert write(database, ispyb, Key("a"), "again") == {"wrote": "again"}
    assert programs(ispyb) == ["again"]


def test_redeliveries_are_counted_although_the_work_is_taken_back(
    ispyb: Tables, once: Once, database: Database
) -> None:
    def fail(connection: sa.Connection) -> None:
        assert begin(connection, Key("a")) is None
        raise MessageError("No.")

    for number in (1, 2, 3):
        assert once.count("a") == number
        with pytest.raises(MessageError):
            database.transact(fail)
    assert once.count("other") == 1
    once.forget_count("a")
    assert once.count("a") == 1
    assert write(database, ispyb, Key("a")) == {"wrote": "xia2"}
    assert write(database, ispyb, Key("a"), "again") == {"wrote": "xia2"}


def test_ids_that_differ_in_case_blanks_or_length_are_different_messages(
    ispyb: Tables, once: Once, database: Database
) -> None:
    ids = ["a", "A", "a ", "é", "e", "x" * 200, "x" * 201, "x" * 202, "", " "]
    for number, each in enumerate(ids):
        assert write(database, ispyb, Key(each), str(number)) == {"wrote": str(number)}
    for number, each in enumerate(ids):
        assert write(database, ispyb, Key(each)) == {"wrote": str(number)}


def test_old_messages_are_forgotten_in_slices(
    ispyb: Tables, once: Once, database: Database
) -> None:
    rows = ", ".join(f"('{number}', NOW() - INTERVAL 61 DAY)" for number in range(SLICE + 5))
    run(database, f"INSERT INTO {NAME} (id, seen) VALUES {rows}")
    write(database, ispyb, Key("new"))
    assert once.count("1") == 1  # does not make it younger
    assert [once.forget(60) for _ in range(3)] == [SLICE, 5, 0]
    assert write(database, ispyb, Key("new"), "again") == {"wrote": "xia2"}


# -- the table -----------------------------------------------------------------------------------


def test_a_missing_table_is_told_with_what_makes_it(ispyb: Tables, database: Database) -> None:
    with pytest.raises(ConfigurationError, match="Table zwrap_messages is missing") as caught:
        Once(database).check()
    statements = str(caught.value).partition("Create it: ")[2].removesuffix(";").split("; ")
    run(database, *statements)
    Once(database).check()
    with database.transaction() as connection:
        rows = connection.exec_driver_sql(f"SELECT * FROM {NAME}").all()
    assert rows == [], "what is tried is taken back"
    Once(database).available()


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        (f"ALTER TABLE {NAME} ENGINE=MyISAM", "of engine MyISAM, which has no transactions"),
        (f"ALTER TABLE {NAME} DROP COLUMN mark", "lacks mark"),
    ],
)
def test_a_table_that_is_not_fit_is_told(
    statement: str, told: str, once: Once, database: Database
) -> None:
    once.check()
    run(database, statement)
    with pytest.raises(ConfigurationError, match=told):
        once.check()


@contextmanager
def as_user(tables: Tables, granted: str) -> Iterator[Database]:
    """Yield the database as a user has it who may do less."""
    with tables.engine.connect() as connection:
        connection.exec_driver_sql("CREATE USER weak@'127.0.0.1' IDENTIFIED BY 'rig'")
        connection.exec_driver_sql(f"GRANT {granted} TO weak@'127.0.0.1'")
    try:
        yield opened(tables, username="weak")
    finally:
        with tables.engine.connect() as connection:
            connection.exec_driver_sql("DROP USER weak@'127.0.0.1'")


def test_a_table_that_may_not_be_written_is_told(ispyb: Tables, once: Once) -> None:
    with (
        as_user(ispyb, "SELECT, INSERT ON ispyb.*") as other,
        pytest.raises(ConfigurationError, match="cannot be written") as caught,
    ):
        Once(other).check()
    assert "Needed are SELECT, INSERT, UPDATE and DELETE on it." in str(caught.value)


def test_a_missing_table_is_told_to_a_user_who_may_not_see_it(ispyb: Tables) -> None:
    with (
        as_user(ispyb, "SELECT, INSERT ON ispyb.AutoProcProgram") as other,
        pytest.raises(ConfigurationError, match="is missing, or may not be read") as caught,
    ):
        Once(other).check()
    assert ": The check: the database refuses a statement: SELECT command" in str(caught.value)
    assert str(caught.value).endswith(f"If it is missing, create it: {ddl()}")


def test_a_table_that_goes_away_is_the_fault_of_no_message(
    ispyb: Tables, once: Once, database: Database
) -> None:
    run(database, f"DROP TABLE {NAME}")
    with pytest.raises(OutageError, match=f"Table {NAME} cannot be used"):
        write(database, ispyb, Key("a"))
    with pytest.raises(OutageError, match=f"Table {NAME} cannot be used"):
        once.available()
    assert programs(ispyb) == []


def test_a_server_that_only_reads_is_not_available(
    ispyb: Tables, once: Once, database: Database
) -> None:
    user = "writer@'127.0.0.1'"
    run(database, f"CREATE USER {user} IDENTIFIED BY 'rig'", f"GRANT ALL ON ispyb.* TO {user}")
    there = Once(opened(ispyb, username="writer"))
    there.available()
    run(database, "SET GLOBAL read_only = 1")
    try:
        with pytest.raises(OutageError, match="error 1290, the server only reads"):
            there.available()
    finally:
        run(database, "SET GLOBAL read_only = 0", f"DROP USER {user}")
    there.available()


def checked(
    site: str, directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> tuple[int, str]:
    """Return exit status and all that `zwrap check --security` says of a site file."""
    file = directory / "site.yml"
    file.write_text(f"version: 1\nenvironments: {{default: [db]}}\ndb: {{plugin: ispyb, {site}}}\n")
    file.chmod(0o644)
    monkeypatch.setenv("ZOCALO_CONFIG", str(file))
    status = main(["check", "--security"])
    return status, "".join(capsys.readouterr())


def test_a_check_of_the_site_looks_at_the_table_and_at_who_reads_the_password(
    ispyb: Tables, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    file = ispyb.credentials_file(tmp_path)
    status, text = checked(f"credentials: {file.name}", tmp_path, monkeypatch, capsys)
    assert (status, "Create it: CREATE TABLE zwrap_messages (" in text) == (100, True)
    make_table(ispyb)
    status, text = checked(f"credentials: {file.name}", tmp_path, monkeypatch, capsys)
    name = f"127.0.0.1:{ispyb.credentials['port']}/ispyb"
    assert (status, f"good: ispyb {name}\n" in text) == (0, True)
    assert f"good: the credentials of ISPyB {file}\n" in text
    assert f"good: the site file {tmp_path}/site.yml\n" in text
    file.chmod(0o644)
    _, text = checked(f"credentials: {file.name}", tmp_path, monkeypatch, capsys)
    told = "everybody may read. Write: chmod 0640"
    assert f"warning: the credentials of ISPyB {file}: {told} {file}\n" in text
    url = ispyb.url.render_as_string(hide_password=False)
    status, text = checked(f"url: {url!r}", tmp_path, monkeypatch, capsys)
    warned = f"warning: the site file {tmp_path}/site.yml: {told} {tmp_path}/site.yml\n"
    assert (status, warned in text) == (0, True)
    other = url.replace(f":{ispyb.credentials['port']}", ":1")
    status, text = checked(f"url: {other!r}", tmp_path, monkeypatch, capsys)
    assert (status, "127.0.0.1:1/ispyb cannot be used: 2003" in text) == (111, True)
