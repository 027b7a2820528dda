"""Commands of the ISPyB service, carried out on a real database, and the rows that they wrote."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest

from zwrap.errors import MessageError
from zwrap.service.ispyb.commands.table import command
from zwrap.service.ispyb.contract import Call, Sent
from zwrap.service.ispyb.database import Database as Opened

from .database import Collected, Database

at = datetime.fromisoformat


class Commands:
    """Carries out commands, each in a transaction of its own, on a real database."""

    def __init__(self, database: Database, ids: Collected) -> None:
        self.database = database
        self.ids = ids
        self.environment: dict[str, object] = {}
        self.sent: list[Sent] = []
        self._opened = Opened(database.url)

    def __call__(self, name: str, parameters: Mapping[str, object], **options: Any) -> Any:
        with self._opened.transaction() as connection:
            call = Call(name, [parameters], self.environment, connection, **options)
            result = command(name).function(call)
        self.sent = call.sent
        return result

    def carry_out(
        self, command_list: Sequence[Mapping[str, Any]], step: Mapping[str, object]
    ) -> None:
        """Carry out a command list, whose parameters are also those of a recipe step, in order."""
        with self._opened.transaction() as connection:
            for each in command_list:
                name = each["ispyb_command"]
                call = Call(name, [each, step], self.environment, connection)
                result = command(name).function(call)
                if "store_result" in each:
                    self.environment[each["store_result"]] = result

    def close(self) -> None:
        self._opened.close()

    def refused(self, name: str, parameters: Mapping[str, object], **options: Any) -> str:
        """Return the sentence with which a command is refused, which changes no row."""
        before = self.count()
        with pytest.raises(MessageError) as failure:
            self(name, parameters, **options)
        assert self.count() == before
        return str(failure.value)

    def count(self) -> dict[str, int]:
        counts = [
            f"SELECT '{name}', COUNT(*) FROM `{name}`"
            for name in ("AutoProcProgram", "AutoProcScaling", "MXMRRun", "ProcessingJob",
                         "AutoProcIntegration", "PhasingAnalysis", "AutoProcProgramAttachment")
        ]  # fmt: skip
        with self.database.engine.connect() as connection:
            return {
                str(name): int(n)
                for name, n in connection.exec_driver_sql(" UNION ALL ".join(counts))
            }

    def rows(self, table: str) -> list[dict[str, Any]]:
        """Return the columns of rows that are not null; times of this minute are `now`."""
        return [
            {name: self._plain(value) for name, value in row.items() if value is not None}
            for row in self.database.rows(table)
        ]

    def row(self, table: str) -> dict[str, Any]:
        [row] = self.rows(table)
        return row

    @staticmethod
    def _plain(value: Any) -> Any:
        if isinstance(value, datetime) and abs(datetime.now(value.tzinfo) - value) < timedelta(
            minutes=1
        ):
            return "now"
        return value

    def program(self, **more: object) -> int:
        return self("register_processing", {"program": "xia2 dials", "cmdline": "xia2", **more})

    def scaling(self) -> int:
        solution = self("write_autoproc", {"program_id": self.program()})
        shells = {shell: {} for shell in ("overall", "innerShell", "outerShell")}
        return self("insert_scaling", {"autoproc_id": solution, **shells})
