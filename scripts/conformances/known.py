"""Differences between stored procedures and the commands of zwrap, each with its reason."""

from __future__ import annotations

from collections.abc import Mapping

KNOWN: Mapping[str, Mapping[str, str]] = {
    "update_processing_status": {
        r"^AutoProcProgram.processingMessage: theirs .*80 characters": (
            "a message of more than 80 characters is kept, up to the 255 of its column; the "
            "procedure cuts it"
        ),
    },
    "add_program_message": {
        r"only ours$|^returns ReadWriteError\('DataError\(1406\)": (
            "a message of more than 255 characters is cut; the procedure refuses it"
        ),
    },
}
"""To a command, patterns of differences with the reason of each."""
