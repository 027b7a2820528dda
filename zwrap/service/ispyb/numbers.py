"""Error numbers of MariaDB, MySQL and their clients: who is at fault, and what is to be done.

Client numbers that are not in the table (2000 to 2999) are about the connection: *away*. Of other
ones the SQLSTATE decides: class 08 is a connection (*away*), class 40 a transaction that was rolled
back (*passing*). What is left is the message's: a dead letter can be sent again, but one message
that is tried for ever holds up all behind it.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

import sqlalchemy as sa


class Fault(Enum):
    """Who or what an error of the database is about."""

    PASSING = "passing"
    """The moment: the transaction is done again, on a new connection if that one has gone."""
    MESSAGE = "message"
    """This message, whatever is done; those behind it may succeed."""
    AWAY = "away"
    """All messages alike: the database cannot be used until something has changed there."""


class Number(NamedTuple):
    """An error number, and what it says about the fault."""

    number: int
    fault: Fault
    remark: str
    source: str


_MARIADB = "MariaDB Error Code Reference"
_MYSQL = "MySQL 8.4 Server Error Message Reference"
_CLIENT = "MySQL 8.4 Client Error Message Reference"
_GALERA = "MariaDB Galera Cluster, Limitations and Known Issues"
TRIED = "seen with MariaDB 10.11"
"""Source of the numbers that tests make the server tell."""

_PASSING, _MESSAGE, _AWAY = Fault.PASSING, Fault.MESSAGE, Fault.AWAY

NUMBERS = (
    # The transaction was rolled back, or can be done again at once.
    Number(1020, _PASSING, "the row has changed since it was read", _MARIADB),
    Number(1180, _PASSING, "COMMIT failed; the id of the message tells what was kept", _MARIADB),
    Number(1205, _PASSING, "another transaction holds a row for too long", TRIED),
    Number(1206, _PASSING, "there are more locks than fit into memory", _MARIADB),
    Number(1213, _PASSING, "two transactions waited for each other; on Galera two nodes", TRIED),
    Number(1297, _PASSING, "the storage engine asks to try again", _MARIADB),
    Number(1317, _PASSING, "somebody has ended the statement (KILL QUERY)", TRIED),
    Number(1412, _PASSING, "a table was changed inside the transaction", _MARIADB),
    Number(1613, _PASSING, "the transaction was rolled back: it took too long", _MARIADB),
    Number(1614, _PASSING, "the transaction was rolled back: a deadlock", _MARIADB),
    Number(1615, _PASSING, "the statement is to be prepared again", _MARIADB),
    Number(1637, _PASSING, "there are too many transactions at once", _MARIADB),
    Number(1969, _PASSING, "a statement took longer than max_statement_time", TRIED),
    Number(3101, _PASSING, "group replication rolled the transaction back", _MYSQL),
    # The connection has gone; a new one may be had.
    Number(1053, _PASSING, "the server is being stopped", _MARIADB),
    Number(1079, _PASSING, "the server has been stopped", _MARIADB),
    Number(1080, _PASSING, "the server closes the connection", _MARIADB),
    Number(1152, _PASSING, "the server has dropped the connection", _MARIADB),
    Number(1158, _PASSING, "the server could not read from the connection", _MARIADB),
    Number(1159, _PASSING, "the server has waited too long for the client", _MARIADB),
    Number(1160, _PASSING, "the server could not write to the connection", _MARIADB),
    Number(1161, _PASSING, "the server could not write to the connection in time", _MARIADB),
    Number(1184, _PASSING, "the server has dropped the connection", _MARIADB),
    Number(1927, _PASSING, "somebody has ended the connection (KILL)", TRIED),
    Number(2006, _PASSING, "the connection has gone", _CLIENT),
    Number(2013, _PASSING, "the connection was lost during the statement", TRIED),
    Number(2014, _PASSING, "the connection is not in step any more", _CLIENT),
    Number(2045, _PASSING, "the connection has gone", _CLIENT),
    Number(2048, _PASSING, "the connection has gone", _CLIENT),
    Number(2055, _PASSING, "the connection was lost; the system says why", TRIED),
    Number(4031, _PASSING, "the server has dropped the connection: nobody used it", _MYSQL),
    # What all messages share cannot be used now.
    Number(1004, _AWAY, "the server cannot make a file", _MARIADB),
    Number(1015, _AWAY, "the server cannot lock a file", _MARIADB),
    Number(1016, _AWAY, "the server cannot open a file", _MARIADB),
    Number(1017, _AWAY, "the server does not find a file", _MARIADB),
    Number(1021, _AWAY, "the server's disk is full", _MARIADB),
    Number(1023, _AWAY, "the server cannot close a file", _MARIADB),
    Number(1024, _AWAY, "the server cannot read from its disk", _MARIADB),
    Number(1026, _AWAY, "the server cannot write to its disk", _MARIADB),
    Number(1030, _AWAY, "the storage engine has failed", _MARIADB),
    Number(1034, _AWAY, "an index is damaged: REPAIR TABLE", _MARIADB),
    Number(1036, _AWAY, "the table can only be read", _MARIADB),
    Number(1037, _AWAY, "the server is out of memory", _MARIADB),
    Number(1038, _AWAY, "the server is out of memory for sorting", _MARIADB),
    Number(1040, _AWAY, "there are too many connections", TRIED),
    Number(1041, _AWAY, "the server is out of memory", _MARIADB),
    Number(1043, _AWAY, "the greeting of the server failed", _MARIADB),
    Number(1044, _AWAY, "the user may not use this database", TRIED),
    Number(1045, _AWAY, "user name or password is wrong", TRIED),
    Number(1047, _AWAY, "this node of Galera is not ready", _GALERA),
    Number(1049, _AWAY, "there is no such database", TRIED),
    Number(1114, _AWAY, "the table is full: so is the server's disk, usually", _MARIADB),
    Number(1115, _AWAY, "the server does not know the character set", _MARIADB),
    Number(1129, _AWAY, "the server blocks this host: mariadb-admin flush-hosts", _MARIADB),
    Number(1130, _AWAY, "the user may not connect from this host", _MARIADB),
    Number(1135, _AWAY, "the server cannot start a thread", _MARIADB),
    Number(1181, _AWAY, "ROLLBACK failed", _MARIADB),
    Number(1193, _AWAY, "the server does not know a setting of the session", _MARIADB),
    Number(1194, _AWAY, "a table is damaged: REPAIR TABLE", _MARIADB),
    Number(1195, _AWAY, "a table is damaged, and repairing it failed", _MARIADB),
    Number(1203, _AWAY, "the user has too many connections", _MARIADB),
    Number(1218, _AWAY, "the server could not connect to another one", _MARIADB),
    Number(1226, _AWAY, "the user has used up a limit of this hour", _MARIADB),
    Number(1231, _AWAY, "the server does not take a setting of the session", _MARIADB),
    Number(1251, _AWAY, "the server wants another way of login", _MARIADB),
    Number(1273, _AWAY, "the server does not know the collation", _MARIADB),
    Number(1290, _AWAY, "the server only reads (read_only), or has another such option", TRIED),
    Number(1296, _AWAY, "the storage engine has failed", _MARIADB),
    Number(1524, _AWAY, "the server lacks the plug-in of the login", _MARIADB),
    Number(1598, _AWAY, "the binary log cannot be written in this form", _MARIADB),
    Number(1665, _AWAY, "binlog_format is STATEMENT; MIXED or ROW is needed", _MARIADB),
    Number(1698, _AWAY, "the user may not log in with a password", _MARIADB),
    Number(1792, _AWAY, "the session only reads (tx_read_only)", TRIED),
    Number(1812, _AWAY, "the file of a table is missing", _MARIADB),
    Number(1814, _AWAY, "the file of a table was taken away (DISCARD TABLESPACE)", _MARIADB),
    Number(1815, _AWAY, "the storage engine has failed", _MARIADB),
    Number(1820, _AWAY, "the password has to be changed", _MARIADB),
    Number(1836, _AWAY, "the server only reads (innodb_read_only)", _MARIADB),
    Number(1862, _AWAY, "the password has expired", _MARIADB),
    Number(1878, _AWAY, "the server cannot write a temporary file", _MARIADB),
    Number(1881, _AWAY, "the server only reads (innodb_force_recovery)", _MYSQL),
    Number(1932, _AWAY, "the storage engine does not know a table", _MARIADB),
    Number(2002, _AWAY, "there is no server at the socket", _CLIENT),
    Number(2003, _AWAY, "the server cannot be reached", TRIED),
    Number(2005, _AWAY, "there is no host of that name", _CLIENT),
    Number(2026, _AWAY, "TLS failed", _CLIENT),
    Number(2059, _AWAY, "the client lacks the plug-in of the login", _CLIENT),
    Number(3024, _AWAY, "the server did not answer in time", TRIED),
    Number(3100, _AWAY, "group replication does not take transactions", _MYSQL),
    Number(3118, _AWAY, "the account is locked", _MYSQL),
    Number(3675, _AWAY, "the server's disk is full", _MYSQL),
    Number(4151, _AWAY, "the account is locked", _MARIADB),
    # A value, a row or a command of this message.
    Number(1048, _MESSAGE, "a column is to have a value, not null", TRIED),
    Number(1054, _MESSAGE, "the schema of the site lacks a column", TRIED),
    Number(1062, _MESSAGE, "another row has this value already", TRIED),
    Number(1118, _MESSAGE, "the row is too long", _MARIADB),
    Number(1136, _MESSAGE, "there are more or fewer values than columns", _MARIADB),
    Number(1142, _MESSAGE, "the user may not do this with the table: GRANT", TRIED),
    Number(1143, _MESSAGE, "the user may not do this with the column: GRANT", _MARIADB),
    Number(1146, _MESSAGE, "the schema of the site lacks a table", TRIED),
    Number(1153, _MESSAGE, "the statement is larger than max_allowed_packet", _MARIADB),
    Number(1169, _MESSAGE, "another row has this value already", _MARIADB),
    Number(1216, _MESSAGE, "there is no such row in the other table", _MARIADB),
    Number(1217, _MESSAGE, "another table refers to the row", _MARIADB),
    Number(1227, _MESSAGE, "the user lacks a privilege", _MARIADB),
    Number(1264, _MESSAGE, "a number is out of the range of its column", TRIED),
    Number(1265, _MESSAGE, "a value does not fit its column: no word of a list", TRIED),
    Number(1267, _MESSAGE, "texts of two collations are compared", _MARIADB),
    Number(1292, _MESSAGE, "a value is no date or number", TRIED),
    Number(1300, _MESSAGE, "a text is no valid UTF-8", _MARIADB),
    Number(1301, _MESSAGE, "a result is larger than max_allowed_packet", _MARIADB),
    Number(1364, _MESSAGE, "a column without default is missing", TRIED),
    Number(1365, _MESSAGE, "a division by zero", _MARIADB),
    Number(1366, _MESSAGE, "a value is no number, or has characters that are not taken", TRIED),
    Number(1370, _MESSAGE, "the user may not call a routine: GRANT", _MARIADB),
    Number(1406, _MESSAGE, "a text is too long for its column", TRIED),
    Number(1411, _MESSAGE, "a value is no date", _MARIADB),
    Number(1441, _MESSAGE, "a date is out of range", _MARIADB),
    Number(1451, _MESSAGE, "another table refers to the row", TRIED),
    Number(1452, _MESSAGE, "there is no such row in the other table", TRIED),
    Number(1557, _MESSAGE, "the change would double a row of another table", _MARIADB),
    Number(1586, _MESSAGE, "another row has this value already", _MARIADB),
    Number(1644, _MESSAGE, "a trigger or routine of the site refuses it (SIGNAL)", TRIED),
    Number(1690, _MESSAGE, "a number is out of range", _MARIADB),
    Number(1761, _MESSAGE, "the change would double a row of another table", _MARIADB),
    Number(1906, _MESSAGE, "a value is given for a column that the server computes", _MARIADB),
    Number(3105, _MESSAGE, "a value is given for a column that the server computes", _MYSQL),
    Number(3140, _MESSAGE, "a text is no JSON", _MYSQL),
    Number(3819, _MESSAGE, "a CHECK of the table refuses it", _MYSQL),
    Number(4025, _MESSAGE, "a CHECK of the table refuses it", TRIED),
)

_TABLE = {each.number: each for each in NUMBERS}

LOST = frozenset(
    {1053, 1079, 1080, 1152, 1158, 1159, 1160, 1161, 1184, 1927, 2006, 2013, 2014, 2045, 2048, 2055,
     3024, 4031}
)  # fmt: skip
"""Numbers after which the connection is of no use."""

_OF_CLIENT = range(2000, 3000)
_OF_STATE = {"08": Fault.AWAY, "40": Fault.PASSING}
_OF_CONNECTION = (sa.exc.InterfaceError, sa.exc.OperationalError)


def number_of(error: sa.exc.DBAPIError) -> int | None:
    """Return the error number of the server or the client library; None: it has none."""
    number = getattr(error.orig, "errno", None)
    return number if isinstance(number, int) and number > 0 else None


def fault_of(error: sa.exc.DBAPIError) -> Fault:
    """Return who or what an error is about."""
    fault = _of_number(number_of(error), error)
    if fault is Fault.MESSAGE and error.statement is None:
        return Fault.AWAY  # a connection could not be made, or COMMIT failed
    return fault


def _of_number(number: int | None, error: sa.exc.DBAPIError) -> Fault:
    """Return what a number is about, whatever was done."""
    if number in _TABLE:
        return _TABLE[number].fault
    if number in _OF_CLIENT:
        return Fault.AWAY
    if number is None:
        return Fault.AWAY if isinstance(error, _OF_CONNECTION) else Fault.MESSAGE
    state = getattr(error.orig, "sqlstate", None) or ""
    return _OF_STATE.get(state[:2], Fault.MESSAGE)


def remark_of(error: sa.exc.DBAPIError) -> str:
    """Return what the table says about an error, or that it says nothing."""
    number = number_of(error)
    if number in _TABLE:
        return _TABLE[number].remark
    return "an error that zwrap does not know"
