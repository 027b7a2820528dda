"""zwrap's own table in ISPyB's database: which messages were written, and what was answered.

The row of a message is written in the transaction of its rows, so that both are there or neither.
A message that comes again finds it, and the stored answer is sent on again.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
from collections.abc import Iterator, Mapping
from typing import NamedTuple, cast

import sqlalchemy as sa
from sqlalchemy.dialects import mysql
from sqlalchemy.schema import CreateIndex, CreateTable

from zwrap.errors import ConfigurationError, MessageError, OutageError
from zwrap.message.jsontext import decode, encode
from zwrap.service.ispyb.database import Database
from zwrap.service.ispyb.numbers import number_of
from zwrap.service.ispyb.refusal import begun, words_of

NAME = "zwrap_messages"
"""Name of the table."""

LONGEST = 200
"""Length of the longest id that is stored as it is, in characters."""

HASHED = "sha256:"
"""Beginning of the digest that stands for an id that is longer, or not printable ASCII."""

SLICE = 1000
"""Largest number of rows that one transaction forgets."""

_TEXT = mysql.VARCHAR(LONGEST, charset="ascii", collation="ascii_bin")

MESSAGES = sa.Table(
    NAME,
    sa.MetaData(),
    sa.Column("id", sa.String(LONGEST).with_variant(_TEXT, "mysql", "mariadb"), primary_key=True),
    sa.Column("seen", sa.DateTime, nullable=False, server_default=sa.text("CURRENT_TIMESTAMP")),
    sa.Column("deliveries", sa.Integer, nullable=False, server_default=sa.text("0")),
    sa.Column("mark", sa.String(36), nullable=True),
    sa.Column("answer", sa.Text().with_variant(mysql.LONGTEXT(), "mysql", "mariadb")),
    sa.Index(f"{NAME}_seen", "seen"),
    mysql_engine="InnoDB",
    mysql_charset="utf8mb4",
    mariadb_engine="InnoDB",
    mariadb_charset="utf8mb4",
)
"""Id; time of the transaction that wrote the message, else of the first redelivery; number of
redeliveries that began; mark of the delivery (see `Key`); answer as JSON, NULL until the message is
written."""

_GRANTED = "Needed are SELECT, INSERT, UPDATE and DELETE on it."
_OF_TABLE = frozenset({1054, 1142, 1143, 1146, 1932})
"""Error numbers about a table that is missing, is another one, or may not be used."""


class Key(NamedTuple):
    """Identity of a message."""

    id: str
    mark: str | None = None
    """Of a message whose id is only a digest of its content: a random text for this delivery if it
    is the first one, so that an equal message that was written before is another one."""


class Once:
    """The table of one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def check(self) -> None:
        """Check that the table can be used.

        Raises:
            ConfigurationError: It is missing, not of InnoDB, another one, or may not be used.
            OutageError: The database is away.
        """
        where = f"in the database {self._database.name}"
        try:
            with self._database.transaction() as connection:
                fault = _fault(connection, where)
        except MessageError as error:
            raise ConfigurationError(
                f"Table {NAME} {where} is missing, or may not be read: {error} {_GRANTED} If it is "
                f"missing, create it: {ddl()}"
            ) from None
        if fault:
            raise ConfigurationError(fault)
        try:
            self._database.transact(_try_all)
        except MessageError as error:
            raise ConfigurationError(
                f"Table {NAME} {where} cannot be written: {error} {_GRANTED}"
            ) from None

    def available(self) -> None:
        """Return if the database takes transactions that write; OutageError if it does not.

        It is tried once: who asks will ask again.
        """
        with self._database.transaction() as connection:
            _touch(connection)

    def count(self, message_id: str) -> int:
        """Count a redelivery of a message before it is worked on; return their number so far."""
        stored = stored_id(message_id)
        return self._database.transact(lambda connection: _counted(connection, stored))

    def forget_count(self, message_id: str) -> None:
        """Count the redeliveries of a message from zero again, as of one that was given up."""
        mine = MESSAGES.c.id == stored_id(message_id)
        change = MESSAGES.update().where(mine).values(deliveries=0)
        self._database.transact(lambda connection: connection.execute(change))

    def forget_equal(self, message_id: str) -> None:
        """Forget the message that had the id before, which is only a digest of its content.

        Else a message of the same content that comes again, because the service ended before it was
        written, would be taken for the one before.
        """
        mine = MESSAGES.c.id == stored_id(message_id)
        self._database.transact(
            lambda connection: connection.execute(MESSAGES.delete().where(mine))
        )

    def forget(self, days: int) -> int:
        """Forget a slice of the messages that are older; return how many those were.

        `days` is the time for which messages are remembered. Fewer than `SLICE`: it was the last.
        """
        return self._database.transact(lambda connection: _forgotten(connection, days))


def begin(connection: sa.Connection, key: Key) -> dict[str, object] | None:
    """Take a message, for this transaction alone; return its answer if it was written before.

    None: it is to be written now. Another transaction with the same id is waited for.
    """
    stored = stored_id(key.id)
    with _own_table():
        try:
            connection.execute(MESSAGES.insert(), {"id": stored})
        except sa.exc.IntegrityError:
            columns = MESSAGES.c.mark, MESSAGES.c.answer
            query = sa.select(*columns).where(MESSAGES.c.id == stored).with_for_update()
            row = connection.execute(query).one()
        else:
            return None
    if row.answer is None or key.mark not in (None, row.mark):
        return None
    return cast("dict[str, object]", decode(row.answer.encode(), "answer"))


def finish(connection: sa.Connection, key: Key, answer: Mapping[str, object]) -> None:
    """Store the answer to a message in the transaction that `begin` took it for."""
    change = MESSAGES.update().where(MESSAGES.c.id == stored_id(key.id))
    values = {"mark": key.mark, "answer": encode(answer).decode()}
    with _own_table():
        connection.execute(change.values(seen=sa.func.now()), values)


def stored_id(message_id: str) -> str:
    """Return the id as it is stored: a digest of one that is too long or not printable ASCII."""
    fits = 0 < len(message_id) <= LONGEST and message_id.isascii() and message_id.isprintable()
    # A blank at the end makes no difference to the database.
    if fits and message_id == message_id.strip() and not message_id.startswith(HASHED):
        return message_id
    return HASHED + hashlib.sha256(message_id.encode("utf-8", "surrogatepass")).hexdigest()


def ddl() -> str:
    """Return the statement that makes the table, in one line."""
    made: list[sa.DDLElement] = [CreateTable(MESSAGES), *map(CreateIndex, MESSAGES.indexes)]
    lines = (str(each.compile(dialect=mysql.dialect())) for each in made)
    return "; ".join(" ".join(line.split()) for line in lines) + ";"


@contextlib.contextmanager
def _own_table() -> Iterator[None]:
    """Turn an error about the table itself into an OutageError: no message is at fault."""
    try:
        yield
    except sa.exc.DBAPIError as error:
        if number_of(error) not in _OF_TABLE:
            raise
        raise OutageError(f"Table {NAME} cannot be used: {words_of(error)}.") from None


def _fault(connection: sa.Connection, where: str) -> str:
    """Return the sentence about a table that is missing, or is of no use; else an empty one."""
    inspector = sa.inspect(connection)
    with begun("The check"):
        if not inspector.has_table(NAME):
            return f"Table {NAME} is missing {where}. Create it: {ddl()}"
        options = inspector.get_table_options(NAME)
        columns = {column["name"] for column in inspector.get_columns(NAME)}
    engine = options.get("mysql_engine") or options.get("mariadb_engine") or "InnoDB"
    if engine != "InnoDB":
        return (
            f"Table {NAME} {where} is of engine {engine}, which has no transactions. "
            f"Change it: ALTER TABLE {NAME} ENGINE=InnoDB"
        )
    if missing := [each.name for each in MESSAGES.columns if each.name not in columns]:
        return f"Table {NAME} {where} lacks {', '.join(missing)}. It is to be made so: {ddl()}"
    return ""


def _try_all(connection: sa.Connection) -> None:
    """Write all that is ever written, and take it back."""
    probe = Key("probe")
    remove = MESSAGES.delete().where(MESSAGES.c.id == stored_id(probe.id))
    with begun("The check"):
        connection.execute(remove)
        begin(connection, probe)
        connection.execute(remove)


def _touch(connection: sa.Connection) -> None:
    """Write without changing a row."""
    with _own_table():
        connection.execute(MESSAGES.update().where(MESSAGES.c.id == "").values(deliveries=0))


def _counted(connection: sa.Connection, stored: str) -> int:
    """Count a redelivery, and return the number of all of them."""
    mine = MESSAGES.c.id == stored
    more = MESSAGES.update().where(mine).values(deliveries=MESSAGES.c.deliveries + 1)
    with _own_table():
        if not connection.execute(more).rowcount:
            try:
                connection.execute(MESSAGES.insert().values(id=stored, deliveries=1))
            except sa.exc.IntegrityError:  # another process was first
                connection.execute(more)
        return int(connection.execute(sa.select(MESSAGES.c.deliveries).where(mine)).scalar_one())


def _forgotten(connection: sa.Connection, days: int) -> int:
    """Delete a slice of old rows, and return how many those were."""
    with _own_table():
        now: dt.datetime = connection.execute(sa.select(sa.func.now())).scalar_one()
        old = MESSAGES.c.seen < now - dt.timedelta(days=days)
        found = connection.execute(sa.select(MESSAGES.c.id).where(old).limit(SLICE)).scalars().all()
        if found:
            connection.execute(MESSAGES.delete().where(MESSAGES.c.id.in_(found)))
    return len(found)
