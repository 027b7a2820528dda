"""ISPyB's database in a real MariaDB."""

from __future__ import annotations

import pytest

from ..database import Collected, Database

pytestmark = pytest.mark.slow


def test_a_database_begins_with_a_data_collection_and_no_other_rows(
    ispyb: Database, collected: Collected
) -> None:
    assert ispyb.row("DataCollection")["dataCollectionId"] == collected.collection
    with ispyb.engine.connect() as connection:
        connection.exec_driver_sql("CREATE TABLE of_a_test (id INT)")
    ispyb.empty()
    assert ispyb.rows("DataCollection") == []
    with ispyb.engine.connect() as connection:
        [names] = zip(*connection.exec_driver_sql("SHOW TABLES").all(), strict=True)
    assert sorted(names) == sorted(ispyb.metadata.tables)
