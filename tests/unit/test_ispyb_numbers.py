"""Error numbers of databases: whose fault an error is."""

from __future__ import annotations

from collections import Counter

import pytest
import sqlalchemy as sa
from mysql.connector import errors

from zwrap.service.ispyb.numbers import LOST, NUMBERS, Fault, fault_of
from zwrap.service.ispyb.refusal import refusal

FAULTS = {each.number: each.fault for each in NUMBERS}


def failure(
    number: int, state: str | None = None, statement: str | None = "INSERT INTO AutoProc"
) -> sa.exc.DBAPIError:
    orig = errors.get_mysql_exception(number, "Words of the server", state)
    return sa.exc.DBAPIError.instance(statement, {}, orig, errors.Error)


def test_each_number_stands_once_with_a_remark_and_a_source() -> None:
    assert max(Counter(each.number for each in NUMBERS).values()) == 1
    assert all(each.remark and each.source for each in NUMBERS)


def test_the_numbers_of_the_issue_are_judged_as_it_says() -> None:
    for number in (1205, 1213):
        assert FAULTS[number] is Fault.PASSING
    for number in (1048, 1062, 1264, 1265, 1364, 1366, 1406, 1452, 1644):
        assert FAULTS[number] is Fault.MESSAGE
    for number in (1040, 1045, 1049, 1290, 2002, 2003):
        assert FAULTS[number] is Fault.AWAY
    for number in range(2002, 2014):  # of which some pass with a new connection
        assert fault_of(failure(number)) is not Fault.MESSAGE


def test_a_fault_of_the_server_is_not_one_of_a_message() -> None:
    for number in (1004, 1015, 1016, 1017, 1023, 1024, 1036, 1135, 1296, 1598, 1815, 1881, 3675):
        assert FAULTS[number] is Fault.AWAY


def test_a_lost_connection_is_never_the_fault_of_a_message() -> None:
    assert all(FAULTS[number] is not Fault.MESSAGE for number in LOST)


@pytest.mark.parametrize(
    ("number", "state", "fault"),
    [
        (2999, None, Fault.AWAY),
        (1999, "08S01", Fault.AWAY),
        (1999, "40001", Fault.PASSING),
        (1999, "22001", Fault.MESSAGE),
        (1999, "HY000", Fault.MESSAGE),
    ],
)
def test_a_number_that_is_not_in_the_table_is_judged_by_its_kind(
    number: int, state: str | None, fault: Fault
) -> None:
    assert fault_of(failure(number, state)) is fault


def test_no_message_is_at_fault_where_no_statement_was_carried_out() -> None:
    assert fault_of(failure(1999, "HY000", statement=None)) is Fault.AWAY
    assert fault_of(failure(1213, "40001", statement=None)) is Fault.PASSING


def test_a_number_that_is_not_known_is_told_as_such() -> None:
    text = str(refusal(failure(1999, "HY000")))
    assert "(error 1999, an error that zwrap does not know)" in text
    assert text.startswith("The message: the database refuses a row of AutoProc: Words of the")
