"""What `zwrap check` finds out about the facility's database."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from zwrap.configuration.site import Configuration
from zwrap.service.ispyb.database import Database
from zwrap.service.ispyb.once import Once


def checks(configuration: Configuration) -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield the name of each check, and the function that raises ZwrapError for a fault."""
    database = Database.of(configuration)
    yield f"ispyb {database.name}", Once(database).check
    settings = configuration.site.ispyb
    if settings and settings.look_up:
        yield f"ispyb look-up in {database.name}", lambda: _look_up(database)


def _look_up(database: Database) -> None:
    """Raise an error if the look-up cannot read all that it reads."""
    from zwrap.service.ispyb.lookup.filter import told_as_ours
    from zwrap.service.ispyb.lookup.queries import check

    with database.reading() as connection, told_as_ours():
        check(connection)
