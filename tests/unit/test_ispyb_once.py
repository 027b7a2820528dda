"""What was written once: ids, marks, and the statement that makes the table.

SQLite is enough where no two transactions meet; tests/integration/test_ispyb_database.py has the
rest.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa

from zwrap.service.ispyb.database import Database
from zwrap.service.ispyb.once import LONGEST, MESSAGES, Key, Once, begin, ddl, finish, stored_id


@pytest.fixture
def database(tmp_path: Path) -> Database:
    url = sa.make_url(f"sqlite:///{tmp_path}/once")
    engine = sa.create_engine(url)
    MESSAGES.create(engine)
    engine.dispose()
    return Database(url)


def write(database: Database, key: Key, answer: object) -> object:
    """Write a message if it is new; return the answer that is kept."""
    with database.transaction() as connection:
        known = begin(connection, key)
        if known is None:
            finish(connection, key, {"answer": answer})
            return answer
        return known["answer"]


@pytest.mark.parametrize("answer", [None, 1, "\ud800 \u2603", [1.5, {"a": [None]}], 2**70])
def test_a_repeated_message_has_the_same_answer(database: Database, answer: object) -> None:
    assert write(database, Key("a"), answer) == answer
    assert write(database, Key("a"), "other") == answer
    assert write(database, Key("b"), "other") == "other"


def test_an_equal_message_is_another_one_at_its_first_delivery(database: Database) -> None:
    assert write(database, Key("digest", "first"), 1) == 1
    assert write(database, Key("digest", "first"), 2) == 1  # done again after a lost connection
    assert write(database, Key("digest"), 2) == 1  # redelivered
    assert write(database, Key("digest", "second"), 3) == 3
    assert write(database, Key("digest"), 4) == 3


def test_a_message_that_was_only_counted_is_new(database: Database) -> None:
    once = Once(database)
    assert [once.count("a"), once.count("a")] == [1, 2]
    assert write(database, Key("a"), 1) == 1
    assert once.count("a") == 3


def test_an_id_is_stored_as_it_is_if_it_fits() -> None:
    for each in ("a", "x" * LONGEST, "0aa1ae8c-5d3b-4b1b-8a9f-7a0b6d0a4c52", "ID:host-1:2:3:4:5"):
        assert stored_id(each) == each
    others = ["", " ", "a ", "x" * (LONGEST + 1), "\u00e9", "\ud800", "a\n", stored_id("")]
    stored = [stored_id(each) for each in others]
    assert len(set(stored)) == len(others)
    assert all(each.startswith("sha256:") and len(each) <= LONGEST for each in stored)


def test_the_statement_that_makes_the_table_is_one_line() -> None:
    assert "\n" not in ddl()
    assert ddl().startswith("CREATE TABLE zwrap_messages (")
    assert "ENGINE=InnoDB" in ddl()
