"""ISPyB's database: connections whose sessions are strict, transactions, and what is away.

Statements are bounded, so that a host that has died never holds up a service: by the session's lock
and statement limits, which the server keeps, and by the time-outs of the connection.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import sqlalchemy as sa

from zwrap.configuration.site import Configuration
from zwrap.errors import ConfigurationError, MessageError, OutageError
from zwrap.host.backoff import Backoff
from zwrap.service.ispyb.credentials import DRIVER, PORT, credentials_of
from zwrap.service.ispyb.numbers import LOST, Fault, fault_of, number_of, remark_of
from zwrap.service.ispyb.refusal import refusal, words_of

_of_driver = logging.getLogger("mysql.connector")
if _of_driver.level == logging.NOTSET:  # as the site leaves it: three lines at each connection
    _of_driver.setLevel(logging.WARNING)

T = TypeVar("T")

CONNECT_S = 10
"""Longest time for a connection, login included, in seconds."""

ANSWER_S = 30
"""Longest wait for an answer of the server, in seconds."""

STATEMENT_S = 20
"""Longest time that a statement may take on MariaDB, in seconds; less than `ANSWER_S`, so that the
server ends it before the client gives up and does not know what came of it."""

LOCK_S = 5
"""Longest wait for a row that another transaction holds, in seconds."""

REPEATS = 5
"""Number of times that a transaction is done again after an error that passes."""

MOST_STATEMENTS = 100_000
"""Largest number of statements of one transaction, which take about a minute."""

FIRST_PAUSE_S, LAST_PAUSE_S = 0.1, 2.0
"""First and longest pause before that, in seconds."""

IDLE_S = 1.0
"""Time without use after which a connection may have been lost, in seconds. Where a transaction is
done again anyway, a backlog is written without a question before each one."""

_USED = "zwrap_used"
"""Key under which a connection has the time of its last use."""

_SESSION = (
    "SET SESSION sql_mode = "
    "'STRICT_ALL_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION', "
    f"innodb_lock_wait_timeout = {LOCK_S}, lock_wait_timeout = {LOCK_S}"
)
"""Settings of each session: nothing is cut or rounded in silence, no lock is waited for long."""

_PACKET = "max_allowed_packet"
_KNOWN = f"SHOW VARIABLES WHERE Variable_name IN ('{_PACKET}', 'max_statement_time', 'wsrep_on')"
_SOME = {
    "max_statement_time": f"SET SESSION max_statement_time = {STATEMENT_S}",
    "wsrep_on": "SET SESSION wsrep_sync_wait = 7",
}
"""Setting that some servers have to the statement for it: a limit of MariaDB, and on Galera that a
transaction sees what was committed on any node, as after a connection lost during COMMIT."""

_COUNT = "statements"
"""Key under which a connection has the number of statements of its transaction."""

_WIDEST = 8
"""Largest number of bytes that a character may become, with some to spare."""

_ESCAPED = "\\\n\r\0\x1a'\""
"""Characters that the driver writes as two."""

_OVERHEAD = 1024
"""Bytes of a statement beside its text and the texts in it, such as numbers and marks."""

_CONNECT: dict[str, Any] = {
    # As fast as the C driver in what is done here, and its time-outs cover the login, too.
    "use_pure": True,
    "connection_timeout": CONNECT_S,
    "read_timeout": ANSWER_S,
    "write_timeout": ANSWER_S,
    # The driver's own default is a collation that MariaDB lacks.
    "charset": "utf8mb4",
    "collation": "utf8mb4_general_ci",
}


def check_installed(who: str) -> None:
    """Raise ConfigurationError unless package ispyb, whose tables `who` reads, is installed."""
    if importlib.util.find_spec("ispyb") is None:
        raise ConfigurationError(f"{who} needs the package ispyb: pip install 'zwrap[ispyb]'.")


class HinderedError(OutageError):
    """A transaction was hindered by what usually passes, also when it was done again.

    The database may be there for other transactions.
    """


class Database:
    """The facility's database.

    Args:
        url: Database URL of SQLAlchemy.

    Raises:
        ConfigurationError: The driver is not installed.
    """

    def __init__(self, url: sa.URL) -> None:
        self.name = f"{url.host}:{url.port or PORT}/{url.database}"
        """Host, port and name of the database."""
        # Tables of which the look-up finds no link (`lookup.columns`) are no mistake.
        options: dict[str, Any] = {"enable_from_linting": False}
        if url.drivername == DRIVER:
            options |= {
                "connect_args": _CONNECT,
                "isolation_level": "READ COMMITTED",
                "pool_reset_on_return": None,  # each transaction is ended, one way or the other
            }
        try:
            self._engine = sa.create_engine(url, **options)
        except ImportError:
            raise ConfigurationError(
                "The database of ISPyB needs the package ispyb: pip install 'zwrap[ispyb]'."
            ) from None
        except ValueError as error:  # about an option in the URL
            raise ConfigurationError(
                f"The URL of the database {self.name} is not valid: {error}."
            ) from None
        if url.drivername == DRIVER:
            sa.event.listen(self._engine, "connect", _set_session)
            sa.event.listen(self._engine, "before_cursor_execute", _check_size)
        sa.event.listen(self._engine, "begin", _begin_count)
        sa.event.listen(self._engine, "before_cursor_execute", _count)
        sa.event.listen(self._engine, "handle_error", _let_go)
        sa.event.listen(self._engine, "checkin", _note_use)

    @classmethod
    def of(cls, configuration: Configuration) -> Database:
        """Return the database that a site file, else the environment, describes.

        Raises:
            ConfigurationError: None is described, or its driver is not installed.
        """
        return cls(credentials_of(configuration).url)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sa.Connection]:
        """Yield a connection in a transaction, which is committed at the end, or rolled back.

        Raises:
            OutageError: The database cannot be used now, or the transaction is to be done again.
            MessageError: It refuses a statement.
        """
        with self._translating(), self._connected() as connection, connection.begin():
            yield connection

    @contextlib.contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """Yield a connection in a transaction that sees all tables as they were at one moment.

        Raises as `transaction` does.
        """
        with self._translating(), self._connected() as connection:
            connection.execution_options(isolation_level="REPEATABLE READ")
            with connection.begin():
                yield connection

    def transact(self, work: Callable[[sa.Connection], T]) -> T:
        """Do work in a transaction, again if what hinders it passes; return what the work returns.

        The work may be done several times: whenever the connection is lost, even during COMMIT,
        when nobody knows what came of it. It begins by looking for what it may have written
        (`once.begin`).

        Raises:
            HinderedError: The transaction was hindered; others may not be.
            OutageError: The database cannot be used now.
            MessageError: It refuses a statement.
        """
        pauses = Backoff(FIRST_PAUSE_S, LAST_PAUSE_S, jitter=True)
        for left in range(REPEATS, -1, -1):
            try:
                with self._connected(IDLE_S) as connection, connection.begin():
                    return work(connection)
            except (sa.exc.DBAPIError, sa.exc.PendingRollbackError) as error:
                if _fault(error) is not Fault.PASSING or not left:
                    raise self._failure(error) from None
            time.sleep(pauses.next_s())
        raise AssertionError  # the last turn has returned, or raised

    @contextlib.contextmanager
    def _connected(self, unused_s: float = 0.0) -> Iterator[sa.Connection]:
        """Yield a connection; one that was lost since it was used last is replaced before.

        `unused_s`: time without use after which the server is asked, in seconds.
        """
        with self._engine.connect() as connection:
            used = connection.info.get(_USED)
            if used is not None and time.monotonic() - used >= unused_s:
                driver: Any = connection.connection.dbapi_connection
                try:
                    connection.dialect.do_ping(driver)
                except connection.dialect.dbapi.Error:  # type: ignore[union-attr]
                    connection.invalidate()  # the next statement has a new one
            yield connection

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    @contextlib.contextmanager
    def _translating(self) -> Iterator[None]:
        """Raise the error of zwrap for an error of the database."""
        try:
            yield
        except (sa.exc.DBAPIError, sa.exc.PendingRollbackError, sa.exc.TimeoutError) as error:
            raise self._failure(error) from None

    def _failure(self, error: sa.exc.SQLAlchemyError) -> Exception:
        """Return the error of zwrap that says what an error of the database means."""
        if not isinstance(error, sa.exc.DBAPIError):
            return OutageError(f"The database {self.name} cannot be used: {words_of(error)}.")
        fault, number = fault_of(error), number_of(error)
        if fault is Fault.MESSAGE:
            return refusal(error)
        kind = HinderedError if fault is Fault.PASSING or number in LOST else OutageError
        why = f" (error {number}, {remark_of(error)})" if number else ""
        return kind(f"The database {self.name} cannot be used: {words_of(error)}{why}.")


def _fault(error: sa.exc.SQLAlchemyError) -> Fault:
    """Return what an error is about; one of a connection that was lost before passes."""
    return fault_of(error) if isinstance(error, sa.exc.DBAPIError) else Fault.PASSING


def _let_go(context: sa.engine.ExceptionContext) -> None:
    """Have a connection that is of no use taken from the pool, and not rolled back."""
    error = context.sqlalchemy_exception
    if isinstance(error, sa.exc.DBAPIError) and number_of(error) in LOST:
        context.is_disconnect = True


def _note_use(driver: object, record: Any) -> None:  # noqa: ANN401 - of SQLAlchemy
    """Note when a connection was used last."""
    if driver is not None:
        record.info[_USED] = time.monotonic()


def _set_session(connection: Any, record: Any) -> None:  # noqa: ANN401 - of the driver
    """Set what holds for all transactions of a new connection."""
    # The driver asks the server so before each statement, which doubles the time of most of them.
    connection.is_connected = lambda: True
    with contextlib.closing(connection.cursor()) as cursor:
        cursor.execute(_SESSION)
        cursor.execute(_KNOWN)
        for name, value in cursor.fetchall():
            if str(name) == _PACKET:
                record.info[_PACKET] = int(value)
            elif str(value) != "OFF":
                cursor.execute(_SOME[str(name)])


def _begin_count(connection: sa.Connection) -> None:
    """Begin to count the statements of a transaction."""
    connection.info[_COUNT] = 0


def _count(connection: sa.Connection, *_: object) -> None:
    """Count a statement; MessageError if the transaction has had too many."""
    connection.info[_COUNT] += 1
    if connection.info[_COUNT] > MOST_STATEMENTS:
        raise MessageError(
            f"The message asks for more than {MOST_STATEMENTS} rows; several messages with fewer "
            "are expected, so that one does not hold up all others."
        )


def _check_size(
    connection: sa.Connection, cursor: object, statement: str, parameters: object, *_: object
) -> None:
    """Raise MessageError for a statement that is too large for the server.

    The server ends the connection of who sends one, which looks as if it had gone away.
    """
    del cursor
    most = connection.info.get(_PACKET, 0)
    rows = parameters if isinstance(parameters, list) else [parameters]
    texts = [
        each
        for row in rows
        if isinstance(row, Mapping)
        for each in row.values()
        if isinstance(each, str)
    ]
    if sum(map(len, texts)) < most / _WIDEST:
        return
    size = len(statement.encode()) + sum(len(each.encode()) for each in texts)
    size += sum(each.count(character) for each in texts for character in _ESCAPED)
    if size > most - _OVERHEAD:
        raise MessageError(
            f"A statement has {size} bytes, and the database {connection.engine.url.host} accepts "
            f"{most} ({_PACKET}); smaller values are expected, or a larger setting of the server."
        )
