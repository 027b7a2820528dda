"""Commands about files: of a program run, of a data collection, models of a protein."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Collection
from pathlib import Path

from zwrap.errors import MessageError, TemporaryError, short
from zwrap.host.beneath import OutsideError
from zwrap.host.faults import is_shared
from zwrap.host.printable import shown_path
from zwrap.service.ispyb.commands.recording import fields, number_of
from zwrap.service.ispyb.contract import Call, Command, Field
from zwrap.service.ispyb.writing import Row

log = logging.getLogger(__name__)

AGAIN_S = 30.0
"""Time until a message is tried again whose files are on a filesystem that is away, in seconds."""

LARGEST_MODEL = 16777215
"""Largest size of a model file in bytes: that of column PDB.contents."""

MOST_MODELS = 1000
"""Largest number of model files of one command."""

_ATOMS = (b"ATOM", b"HETATM")
"""Begins of lines of a model, in the PDB format and in mmCIF."""

PROGRAM_TYPES = ("log", "result", "graph")
COLLECTION_TYPES = ("snapshot", "log", "xy", "recip", "pia")
"""Types of files; a file of any other one is recorded as a log."""

# -- of a program run ------------------------------------------------------------------------------

_PROGRAM_FILE = fields(
    "AutoProcProgramAttachment",
    {
        "program_id": Field("autoProcProgramId", "number of the program run", required=True),
        "file_name": Field("fileName", "name of the file", required=True, literal=True),
        "file_path": Field(
            "filePath",
            "its directory, an absolute path; the file has to be there",
            required=True,
            literal=True,
        ),
        "file_type": Field("fileType", "`log`, `result` or `graph`; any other one becomes a log"),
        "importance_rank": Field("importanceRank", "1 for the most important", literal=True),
    },
)


def _add_program_file(call: Call) -> int:
    """Record a file of a program run; return the number of the record."""
    row = Row(call, "AutoProcProgramAttachment", stamp="recordTimeStamp")
    row.take({name: each for name, each in _PROGRAM_FILE.items() if name != "file_type"})
    row.put("fileType", _type(call, PROGRAM_TYPES), "file_type")
    _check_file(call, Path(_path(call)))
    return row.insert()


PROGRAM_FILE = Command(
    "add_program_attachment", _add_program_file, _PROGRAM_FILE, "A file of a program run"
)

# -- of a data collection --------------------------------------------------------------------------

_COLLECTION_FILE = fields(
    "DataCollectionFileAttachment",
    {
        "dcid": Field("dataCollectionId", "number of the data collection", required=True),
        "file_name": Field("fileFullPath", "name of the file", required=True, literal=True),
        "file_path": Field(
            "fileFullPath",
            "its directory, an absolute path; the file has to be there",
            required=True,
            literal=True,
        ),
        "file_type": Field(
            "fileType", "`snapshot`, `log`, `xy`, `recip` or `pia`; any other one becomes a log"
        ),
    },
)


def _add_collection_file(call: Call) -> int:
    """Record a file of a data collection; return the number of the record."""
    row = Row(call, "DataCollectionFileAttachment")
    row.take({name: each for name, each in _COLLECTION_FILE.items() if name != "file_type"})
    path = _path(call)
    row.put("fileFullPath", path, "file_path/file_name")
    row.put("fileType", _type(call, COLLECTION_TYPES), "file_type")
    _check_file(call, Path(path))
    return row.insert()


COLLECTION_FILE = Command(
    "add_datacollection_attachment",
    _add_collection_file,
    _COLLECTION_FILE,
    "A file of a data collection",
)

# -- models ----------------------------------------------------------------------------------------

_MODELS = {
    "protein_id": Field("Protein_has_PDB.proteinid", "number of the protein", required=True),
    "source": Field("PDB.source", "program or data bank that they are of"),
    "pdb_files": Field("PDB.contents", "paths, a list; one that is not there is left out"),
}


def _insert_models(call: Call) -> None:
    """Store files of models of a protein."""
    protein = number_of(call, "protein_id", _MODELS)
    given = call.get("pdb_files")
    if not isinstance(given, list) or not given or not all(isinstance(each, str) for each in given):
        raise MessageError(
            f"Command {call.command!r}: pdb_files is {short(given)}; a list of paths is expected."
        )
    if len(given) > MOST_MODELS:
        raise MessageError(
            f"Command {call.command!r}: pdb_files has {len(given)} paths; up to {MOST_MODELS} are "
            "accepted."
        )
    for path in map(Path, given):
        content = _content(call, path)
        if content is None:
            log.warning(
                "Command %r: file %s is not there and is left out", call.command, shown_path(path)
            )
            continue
        row = Row(call, "PDB").put("name", path.name, "pdb_files")
        row.put("contents", content, "pdb_files").take({"source": _MODELS["source"]})
        link = Row(call, "Protein_has_PDB").put("proteinid", protein, "protein_id")
        link.put("pdbid", row.insert()).insert()


def _content(call: Call, path: Path) -> str | None:
    """Return the text of a file; None if it is not there."""
    where = f"Command {call.command!r}: pdb_files"
    try:
        with call.allowed.reading(path, where) as place:
            if not stat.S_ISREG(place.stat().st_mode):
                return None
            with place.open("rb") as file:
                content = file.read(LARGEST_MODEL + 1)
    except OutsideError as error:
        raise MessageError(str(error)) from None
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise _unreadable(error, where, path) from None
    if len(content) > LARGEST_MODEL:
        raise MessageError(
            f"{where} names {shown_path(path)}, which has more than {LARGEST_MODEL} bytes; the "
            "database accepts no more."
        )
    if not any(line.startswith(_ATOMS) for line in content.splitlines()):
        # Else whoever may send a message could read any file of the service user in ISPyB.
        raise MessageError(
            f"{where} names {shown_path(path)}, which is no model: lines that begin with ATOM or "
            "HETATM are expected."
        )
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise MessageError(
            f"{where} names {shown_path(path)}, which is no text in UTF-8; a PDB file is expected."
        ) from None


# -- paths -----------------------------------------------------------------------------------------


def _path(call: Call) -> str:
    """Return the path of the file that a message names in two parts."""
    directory, name = str(call.raw("file_path")), str(call.raw("file_name"))
    path = os.path.join(directory, name)
    if not path.startswith("/"):
        raise MessageError(
            f"Command {call.command!r}: file_path is {short(directory)}; an absolute path is "
            "expected."
        )
    return path


def _check_file(call: Call, path: Path) -> None:
    """Raise MessageError unless a file is there, in a directory that messages may name."""
    where = f"Command {call.command!r}: file_path/file_name"
    try:
        call.allowed.check_opened(path, where)
        found = path.stat()
    except OutsideError as error:
        raise MessageError(str(error)) from None
    except (FileNotFoundError, NotADirectoryError):
        raise MessageError(
            f"{where} is {shown_path(path)}, and there is no such file; once it is there, "
            "send the message again."
        ) from None
    except (OSError, ValueError) as error:
        raise _unreadable(error, where, path) from None
    if not stat.S_ISREG(found.st_mode):
        raise MessageError(f"{where} is {shown_path(path)}, which is no file.")


def _unreadable(
    error: OSError | ValueError, where: str, path: Path
) -> MessageError | TemporaryError:
    """Return the error about a file that cannot be read: now, or at all.

    A ValueError is about a text that is no path, as one with a null character.
    """
    why = error.strerror if isinstance(error, OSError) else error
    text = f"{where} is {shown_path(path)}, which cannot be read: {why}."
    return TemporaryError(text, retry_after_s=AGAIN_S) if is_shared(error) else MessageError(text)


def _type(call: Call, types: Collection[str]) -> str:
    """Return the type of a file; ``log`` for one that is not known."""
    given = str(call.get("file_type")).lower()
    if given in types:
        return given
    log.warning(
        "Command %r: file type %s is unknown, 'log' is recorded", call.command, short(given)
    )
    return "log"


MODELS = Command(
    "insert_pdb_files", _insert_models, _MODELS, "Models of a protein, with their text"
)
