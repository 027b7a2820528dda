"""What `zwrap check` finds out about the facility's database."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from zwrap.configuration.site import Configuration
from zwrap.errors import ConfigurationError, MessageError
from zwrap.service.ispyb.database import Database, check_installed
from zwrap.service.ispyb.once import NAME, Once
from zwrap.service.ispyb.refusal import begun

Remarks = Sequence[str]
"""What is no fault, and worth knowing."""


def checks(configuration: Configuration) -> Iterator[tuple[str, Callable[[], Remarks]]]:
    """Yield the name of each check, and its function, which raises ZwrapError for a fault."""
    check_installed("The database of ISPyB")
    database = Database.of(configuration)
    settings = configuration.site.ispyb
    looks_up = settings is not None and settings.look_up
    yield f"ispyb {database.name}", lambda: _own_table(database, looks_up=looks_up)
    if looks_up:
        yield f"ispyb look-up in {database.name}", lambda: _look_up(database)


def _own_table(database: Database, *, looks_up: bool) -> Remarks:
    """Return a remark if service ISPyB cannot write, and is not meant to.

    It is not where the look-up is on, and the user may not write a program run either.
    """
    try:
        Once(database).check()
    except ConfigurationError:
        if not looks_up or _may_write(database):
            raise
        remark = (
            f"The user may only read in the database {database.name}: that is enough for the "
            f"look-up. Service ISPyB cannot run with it: that needs table {NAME}, and to write "
            "(docs/ispyb.md)."
        )
        return [remark]
    return ()


def _may_write(database: Database) -> bool:
    """Return True if the user may write the row of a program run; none is changed."""
    from ispyb.sqlalchemy import AutoProcProgram  # two seconds

    table = AutoProcProgram.__table__
    change = table.update().where(table.c.autoProcProgramId == 0).values(processingMessage=None)
    try:
        with database.transaction() as connection:
            connection.execute(change)
    except MessageError:
        return False
    return True


def _look_up(database: Database) -> Remarks:
    """Return a remark on columns that are lacking; raise an error if one is that is needed."""
    from zwrap.service.ispyb.lookup.columns import Reader, check, lacking_columns, remark_on

    with database.reading() as connection, begun("The look-up"):
        lacking = lacking_columns(connection)
        check(Reader(connection, lacking))
    return [remark] if (remark := remark_on(lacking)) else ()
