"""Commands about files record those that are there, where messages may name files."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from zwrap.errors import TemporaryError
from zwrap.host.beneath import AllowedDirectories
from zwrap.service.ispyb.commands import attachments

from ..commanding import Commands

pytestmark = pytest.mark.slow

# -- files -----------------------------------------------------------------------------------------


def test_program_attachment(commands: Commands, tmp_path: Path) -> None:
    (tmp_path / "$ID.html").touch()
    commands.environment = {"ID": "x"}
    program = commands.program()
    parameters: dict[str, object] = {
        "program_id": program,
        "file_path": str(tmp_path),
        "file_name": "$ID.html",
        "file_type": "LOG",
        "importance_rank": "1",
    }
    first = commands("add_program_attachment", parameters)
    commands("add_program_attachment", {**parameters, "file_type": "recip"})
    expected = {
        "autoProcProgramAttachmentId": first,
        "autoProcProgramId": program,
        "filePath": str(tmp_path),
        "fileName": "$ID.html",
        "fileType": "Log",
        "importanceRank": 1,
        "recordTimeStamp": "now",
        "deleted": 0,
    }
    assert commands.rows("AutoProcProgramAttachment") == [
        expected,
        {**expected, "autoProcProgramAttachmentId": first + 1},
    ]


def test_attachment_has_to_be_a_file_where_messages_may_name_files(
    commands: Commands, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    program = commands.program()

    def said(name: str, path: object = tmp_path, **options: Any) -> str:
        parameters = {"program_id": program, "file_path": str(path), "file_name": name}
        return commands.refused("add_program_attachment", parameters, **options)

    begin = "Command 'add_program_attachment': file_path/file_name is "
    assert said("none") == (
        f"{begin}{tmp_path}/none, and there is no such file; once it is there, send the message "
        "again."
    )
    assert said(".") == f"{begin}{tmp_path}, which is no file."
    assert "an absolute path is expected" in said("file", "here")
    assert "cannot be read: embedded null byte" in said("file\0")
    elsewhere = AllowedDirectories([tmp_path / "sub"], "key 'directories'")
    assert "not below the directories that messages may name" in said("file", allowed=elsewhere)
    assert "file_name" in commands.refused(
        "add_program_attachment", {"program_id": program, "file_path": "/"}
    )


def test_attachment_comes_again_while_its_filesystem_is_away(
    commands: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Away(type(tmp_path)):  # type: ignore[misc]
        def stat(self, **_: Any) -> os.stat_result:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), str(self))

    monkeypatch.setattr(attachments, "Path", Away)
    parameters = {
        "program_id": commands.program(), "file_path": str(tmp_path), "file_name": "file",
    }  # fmt: skip
    with pytest.raises(TemporaryError, match="Stale file handle") as failure:
        commands("add_program_attachment", parameters)
    assert failure.value.retry_after_s == 30


def test_datacollection_attachment(commands: Commands, tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    parameters = {
        "dcid": commands.ids.collection,
        "file_path": str(tmp_path),
        "file_name": "a.png",
        "file_type": "Snapshot",
    }
    number = commands("add_datacollection_attachment", parameters)
    assert commands.row("DataCollectionFileAttachment") == {
        "dataCollectionFileAttachmentId": number,
        "dataCollectionId": commands.ids.collection,
        "fileFullPath": f"{tmp_path}/a.png",
        "fileType": "snapshot",
        "createTime": "now",
    }


def test_models_of_a_protein(commands: Commands, tmp_path: Path) -> None:
    protein = commands.database.insert("Protein", proposalId=commands.ids.proposal)
    (tmp_path / "a.pdb").write_text("ATOM ä\n")
    (tmp_path / "b.pdb").write_bytes(b"ATOM \xff")
    parameters: dict[str, object] = {
        "protein_id": protein,
        "source": "AlphaFold",
        "pdb_files": [f"{tmp_path}/none.pdb", f"{tmp_path}/a.pdb", str(tmp_path)],
    }
    assert commands("insert_pdb_files", parameters) is None
    model = commands.row("PDB")
    assert model == {
        "pdbId": model["pdbId"], "name": "a.pdb", "contents": "ATOM ä\n", "source": "AlphaFold",
    }  # fmt: skip
    link = commands.row("Protein_has_PDB")
    assert (link["proteinid"], link["pdbid"]) == (protein, model["pdbId"])

    def said(**options: Any) -> str:
        given = {**parameters, "pdb_files": [f"{tmp_path}/b.pdb"]}
        return commands.refused("insert_pdb_files", given, **options)

    assert "which is no text in UTF-8" in said()
    (tmp_path / "b.pdb").write_text("[ispyb_sqlalchemy]\npassword = ATOM\n")
    assert "which is no model: lines that begin with ATOM or HETATM" in said()
    for name in ("a\0", "a\ud800"):
        assert "cannot be read" in commands.refused(
            "insert_pdb_files", {**parameters, "pdb_files": [name]}
        )
    assert "not below the directories" in said(allowed=AllowedDirectories([tmp_path / "s"], "k"))
    assert "pdb_files has 1001 paths; up to 1000 are accepted." in commands.refused(
        "insert_pdb_files", {**parameters, "pdb_files": ["/none"] * 1001}
    )
    assert "pdb_files is []; a list of paths" in commands.refused(
        "insert_pdb_files", {**parameters, "pdb_files": []}
    )


# -- what is read ----------------------------------------------------------------------------------


def test_program_runs_of_a_job_and_their_files_are_read(commands: Commands, tmp_path: Path) -> None:
    job = commands.database.insert("ProcessingJob", dataCollectionId=commands.ids.collection)
    program = commands.program(rpid=job)
    assert commands("retrieve_programs_for_job_id", {"rpid": str(job)}) == [
        {
            "id": program,
            "commandLine": "xia2",
            "programs": "xia2 dials",
            "status": None,
            "message": None,
            "startTime": None,
            "endTime": None,
            "environment": "",
            "jobId": job,
        }
    ]
    (tmp_path / "f").touch()
    file = {"program_id": program, "file_path": str(tmp_path), "file_name": "f"}
    number = commands("add_program_attachment", {**file, "file_type": "graph"})
    assert commands("retrieve_program_attachments_for_program_id", {"program_id": program}) == [
        {
            "attachmentId": number,
            "fileType": "Graph",
            "filePath": str(tmp_path),
            "fileName": "f",
            "importanceRank": None,
        }
    ]
    assert "is 99, and there is no such row" in commands.refused(
        "retrieve_programs_for_job_id", {"rpid": 99}
    )


def test_title_of_a_proposal_is_read(commands: Commands) -> None:
    name = "retrieve_proposal_title"
    assert commands(name, {"visit": "cm12345-1"}) == "Radium"
    assert commands(name, {"proposalcode": "cm", "proposalnumber": 12345}) == "Radium"
    assert "there is no proposal" in commands.refused(name, {"visit": "\u03c3\ud8001-1"})
    assert "there is no proposal 'cm99999'" in commands.refused(name, {"visit": "cm99999-1"})
