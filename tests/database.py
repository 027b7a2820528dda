"""An ISPyB database in a real MariaDB: its tables, its rows, and those of one data collection."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import sqlalchemy as sa

LONGEST = 64
"""Largest number of tables of one question: the server joins no more in one SELECT."""


class Collected(NamedTuple):
    """Ids of the rows that are there before a program runs: one data collection of a visit."""

    person: int
    proposal: int
    session: int
    group: int
    collection: int


class Database:
    """Tables of the ORM of ispyb, seen by a connection of its own that commits each statement.

    Args:
        given: connection.json of the server.
    """

    def __init__(self, given: dict[str, Any]) -> None:
        self.credentials = {
            key: given[key] for key in ("username", "password", "host", "port", "database")
        }
        self.url = sa.URL.create("mysql+mysqlconnector", **self.credentials)
        self.engine = sa.create_engine(
            self.url,
            # SQLAlchemy 2.0 knows no isolation level AUTOCOMMIT of this driver.
            connect_args={"use_pure": True, "collation": "utf8mb4_general_ci", "autocommit": True},
            poolclass=sa.NullPool,
        )

    @functools.cached_property
    def metadata(self) -> sa.MetaData:
        from ispyb.sqlalchemy import AutoProc  # two seconds

        metadata: sa.MetaData = AutoProc.__table__.metadata
        return metadata

    def table(self, name: str) -> sa.Table:
        return self.metadata.tables[name]

    def create(self) -> None:
        """Make the tables, which takes seconds."""
        with self.engine.connect() as connection:
            connection.exec_driver_sql("SET foreign_key_checks = 0")
            self.metadata.create_all(connection, checkfirst=False)

    def empty(self) -> None:
        """Delete all rows, and all tables that are not of the ORM."""
        with self.engine.connect() as connection:
            connection.exec_driver_sql("SET foreign_key_checks = 0")
            for name in set(sa.inspect(connection).get_table_names()) - set(self.metadata.tables):
                connection.exec_driver_sql(f"DROP TABLE `{name}`")
            names = list(self.metadata.tables)
            for start in range(0, len(names), LONGEST):
                asked = " UNION ALL ".join(
                    f"SELECT '{name}' WHERE EXISTS (SELECT 1 FROM `{name}`)"
                    for name in names[start : start + LONGEST]
                )
                for [name] in connection.exec_driver_sql(asked).all():
                    connection.exec_driver_sql(f"DELETE FROM `{name}`")

    def insert(self, name: str, /, **values: Any) -> int:
        """Insert a row and return its id; columns that are not named have their defaults."""
        with self.engine.connect() as connection:
            done = connection.execute(self.table(name).insert().values(**values))
            return int((done.inserted_primary_key or (0,))[0])

    def rows(self, name: str) -> list[dict[str, Any]]:
        """Return the rows of a table in the order of its primary key."""
        table = self.table(name)
        with self.engine.connect() as connection:
            found = connection.execute(sa.select(table).order_by(*table.primary_key.columns))
            return [dict(row) for row in found.mappings()]

    def row(self, name: str) -> dict[str, Any]:
        """Return the only row of a table."""
        [row] = self.rows(name)
        return row

    def collect(self) -> Collected:
        """Insert what the data acquisition writes before a program runs; return its ids."""
        person = self.insert("Person", familyName="Curie", givenName="Marie", login="mc")
        proposal = self.insert(
            "Proposal", personId=person, proposalCode="cm", proposalNumber="12345", title="Radium"
        )
        session = self.insert(
            "BLSession", proposalId=proposal, visit_number=1, beamLineName="i03",
            startDate=sa.func.now(), endDate=sa.func.now(),
        )  # fmt: skip
        group = self.insert("DataCollectionGroup", sessionId=session, experimentType="SAD")
        collection = self.insert(
            "DataCollection", dataCollectionGroupId=group, SESSIONID=session, axisStart=0,
            axisRange=0.1, numberOfImages=1800, startImageNumber=1, wavelength=0.97625,
            imageDirectory="/dls/i03/data/2026/cm12345-1/thau/",
            imagePrefix="thau", dataCollectionNumber=1, fileTemplate="thau_1_#####.cbf",
            startTime=sa.func.now(),
        )  # fmt: skip
        return Collected(person, proposal, session, group, collection)

    def credentials_file(self, directory: Path) -> Path:
        """Write the credentials in the form of ispyb.sqlalchemy, for its user alone."""
        file = directory / "ispyb.cfg"
        lines = [f"{key} = {value}" for key, value in self.credentials.items()]
        file.touch(mode=0o600)
        file.write_text("\n".join(["[ispyb_sqlalchemy]", *lines, ""]))
        return file


@contextmanager
def lacking(tables: Database, table: str, column: str) -> Iterator[None]:
    """Have a table without a column for a while, which is empty in all rows."""
    rename = f"ALTER TABLE {table} RENAME COLUMN {{}} TO {{}}"
    with tables.engine.connect() as connection:
        connection.exec_driver_sql(rename.format(column, "of_another_schema"))
        try:
            yield
        finally:
            connection.exec_driver_sql(rename.format("of_another_schema", column))
