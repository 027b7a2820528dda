"""Rules of files that zwrap puts into a working directory: where, and what they may replace."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from zwrap.errors import PermanentError, ProgramError
from zwrap.host.beneath import ANYWHERE, AllowedDirectories, OutsideError
from zwrap.program import invocation
from zwrap.program.reading import parse_definition
from zwrap.recipe.envelope import Envelope
from zwrap.recipe.graph import Recipe
from zwrap.wrapper import placing
from zwrap.wrapper.heartbeat import Heartbeat
from zwrap.wrapper.placing import Directory, put_files
from zwrap.wrapper.step import ProgramStep

INPUTS = {"x": {}, "name": {"default": "run.inp"}, "model": {}}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    directory = tmp_path / "visit" / "run"
    directory.mkdir(parents=True)
    return directory


def put(
    directory: Path, allowed: AllowedDirectories = ANYWHERE, keys: Any = None, **parameters: Any
) -> None:
    """Put the files of a definition into a directory."""
    keys = keys or {"write": [{"file": "{name}", "template": "x = {{ x }}\n"}]}
    defined = parse_definition({"command": ["run"], "inputs": INPUTS, **keys}, "test.yaml", "prog")
    known = invocation.values(defined, parameters, None, {})
    put_files(defined, known, Directory(directory, directory, allowed))


def test_a_file_is_written_below_the_directory_of_the_run(run: Path) -> None:
    put(run, x=1, name="sub/dir/run.inp")
    file = run / "sub" / "dir" / "run.inp"
    assert file.read_text() == "x = 1\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o664 & ~_umask()
    assert sorted(each.name for each in file.parent.iterdir()) == ["run.inp"]


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_a_file_of_an_earlier_run_is_written_again(run: Path) -> None:
    put(run, x=1)
    put(run, x=2)
    assert (run / "run.inp").read_text() == "x = 2\n"
    put(run, x=2)
    put(run, x=3)
    assert (run / "run.inp").read_text() == "x = 3\n"


def test_a_file_of_somebody_else_stays(run: Path) -> None:
    (run / "run.inp").write_text("mine")
    with pytest.raises(ProgramError, match=r"run\.inp is there already, and zwrap has not put it"):
        put(run, x=1)
    assert (run / "run.inp").read_text() == "mine"
    put(run, keys={"write": [{"file": "run.inp", "template": "x", "overwrite": True}]})
    assert (run / "run.inp").read_text() == "x"


def test_a_file_that_somebody_has_changed_since_stays(run: Path) -> None:
    put(run, x=1)
    (run / "run.inp").write_text("x = 1.5 # better\n")
    with pytest.raises(ProgramError, match="or somebody has changed it since"):
        put(run, x=2)
    assert (run / "run.inp").read_text() == "x = 1.5 # better\n"


def test_a_file_with_the_same_content_is_left_as_it_is(run: Path) -> None:
    (run / "run.inp").write_text("x = 1\n")
    os.utime(run / "run.inp", (1, 1))
    put(run, x=1)
    assert (run / "run.inp").stat().st_mtime == 1


def test_a_run_that_was_killed_before_it_wrote_may_write_again(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(run, x=1)

    write = placing.write_atomically

    def killed(path: Path, data: bytes | str, **options: Any) -> None:
        if path.name == "run.inp":
            raise KeyboardInterrupt
        write(path, data, **options)

    with monkeypatch.context() as patched:
        patched.setattr(placing, "write_atomically", killed)
        with pytest.raises(KeyboardInterrupt):
            put(run, x=2)
    assert (run / "run.inp").read_text() == "x = 1\n"
    put(run, x=3)
    assert (run / "run.inp").read_text() == "x = 3\n"


def test_no_link_leads_a_file_elsewhere(run: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (run / "sub").symlink_to(outside)
    with pytest.raises(ProgramError, match=r"'sub' on the way is a link; a directory is expected"):
        put(run, x=1, name="sub/run.inp")
    target = outside / "target"
    target.write_text("theirs")
    (run / "run.inp").symlink_to(target)
    with pytest.raises(ProgramError, match="is there already"):
        put(run, x=1)
    put(run, keys={"write": [{"file": "run.inp", "template": "x", "overwrite": True}]})
    assert target.read_text() == "theirs"
    assert not (run / "run.inp").is_symlink()
    assert [each.name for each in outside.iterdir()] == ["target"]


def test_records_behind_a_link_count_for_none(run: Path, tmp_path: Path) -> None:
    """Somebody who puts a link in the place of zwrap's own directory gets no file written there."""
    (tmp_path / "elsewhere").mkdir()
    (run / ".zwrap").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ProgramError, match=r"'\.zwrap' on the way is a link"):
        put(run, x=1)
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_what_no_file_can_hold_or_be_called_is_told(run: Path) -> None:
    with pytest.raises(ProgramError, match=r"run\.inp cannot be written: .*surrogates not allowed"):
        put(run, x="\ud800")
    with pytest.raises(ProgramError, match=r"File name too long"):
        put(run, x=1, name="a" * 300)
    with pytest.raises(ProgramError, match=r"m cannot be written: embedded null byte"):
        put(run, keys={"link": {"m": "{model}"}}, model="a\0b")


def test_a_file_cannot_replace_a_directory(run: Path) -> None:
    (run / "run.inp").mkdir()
    with pytest.raises(ProgramError, match="is there already"):
        put(run, x=1)


# -- links and copies ------------------------------------------------------------------------------


def test_an_input_gets_its_name_as_a_link(run: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "a.pdb", tmp_path / "b.pdb"
    keys = {"link": {"in/model.pdb": "{model}"}}
    put(run, keys=keys, model=str(first))
    put(run, keys=keys, model=str(first))
    link = run / "in" / "model.pdb"
    assert link.readlink() == first
    put(run, keys=keys, model=str(second))
    assert link.readlink() == second
    put(run, keys=keys)
    link.unlink()
    link.write_text("mine")
    with pytest.raises(ProgramError, match="is there already"):
        put(run, keys=keys, model=str(first))
    put(run, keys={"link": {"near.pdb": "{model}"}}, model="in/model.pdb")
    assert (run / "near.pdb").read_text() == "mine"


def test_an_input_gets_its_name_as_a_copy(run: Path, tmp_path: Path) -> None:
    source = tmp_path / "a.pdb"
    source.write_text("one")
    os.utime(source, (100, 100))
    keys = {"copy": {"model.pdb": "{model}"}}
    put(run, keys=keys, model=str(source))
    copied = run / "model.pdb"
    assert (copied.read_text(), copied.stat().st_mtime) == ("one", 100)
    source.write_text("two")
    put(run, keys=keys, model=str(source))
    assert copied.read_text() == "two"
    copied.write_text("mine")
    with pytest.raises(ProgramError, match="is there already"):
        put(run, keys=keys, model=str(source))
    with pytest.raises(ProgramError, match=r"of which model\.pdb is to be a copy, is no file"):
        put(run, keys=keys, model=str(tmp_path / "gone"))
    assert sorted(each.name for each in run.iterdir()) == [".zwrap", "model.pdb"]


def test_a_step_cannot_have_a_file_copied_that_it_may_not_name(run: Path, tmp_path: Path) -> None:
    """A copy in a directory that others read would hand out what only the service user may read."""
    secret = tmp_path / "site.key"
    secret.write_text("secret")
    allowed = AllowedDirectories([run.parent], "section security, key 'directories'")
    with pytest.raises(OutsideError, match="not below the directories that messages may name"):
        put(run, allowed, {"copy": {"k": "{model}"}}, model=str(secret))
    assert not (run / "k").exists()
    put(run, allowed, {"copy": {"k": str(secret)}})  # the definition itself may
    assert (run / "k").read_text() == "secret"


@pytest.mark.parametrize("source", ["ref.mtz", "{model}", "./{model}", "{run}/ref.mtz"])
def test_a_link_in_the_working_directory_leads_no_copy_out(
    run: Path, tmp_path: Path, source: str
) -> None:
    """Others put links there; only an absolute path of the definition's own is its word alone."""
    secret = tmp_path / "site.key"
    secret.write_text("secret")
    for name in ("ref.mtz", "{model}"):
        (run / name).symlink_to(secret)
    allowed = AllowedDirectories([run.parent], "section security, key 'directories'")
    keys = {"copy": {"k": source}, "inputs": {**INPUTS, "run": {}}}
    with pytest.raises(OutsideError, match="not below the directories that messages may name"):
        put(run, allowed, keys, model="{model}", run=str(run))
    assert not (run / "k").exists()


# -- a whole step ----------------------------------------------------------------------------------


def step(directory: Path, definition: dict[str, Any], **parameters: Any) -> ProgramStep:
    defined = parse_definition(definition, "test.yaml", "prog")
    node = {"queue": "q", "job_parameters": {"working_directory": str(directory), **parameters}}
    envelope = Envelope(Recipe({"start": [[1, []]], "1": node}), 1, environment={"ID": "guid"})
    return ProgramStep(defined, envelope, Heartbeat("prog", "prog", {}))


class _Running:
    def __init__(self, program: object) -> None: ...

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


def test_a_program_finds_its_files_when_it_starts(run: Path) -> None:
    definition = {
        "command": ["sh", "-c", "cat job.json reference.pdb > seen.txt"],
        "directory": "work",
        "write": [{"file": "job.json", "format": "json", "values": {"d_min": "{d_min}"}}],
        "link": {"reference.pdb": "{model}"},
        "inputs": {"d_min": {"type": "number"}, "model": {"type": "file"}},
        "success": {"files": ["seen.txt"]},
    }
    model = run / "a.pdb"
    model.write_text("atoms")
    for d_min in ("2.5", "3"):
        ended = step(run, definition, d_min=d_min, model=str(model)).run(_Running)
        assert ended.failures == []
        seen = (run / "work" / "seen.txt").read_text()
        assert json.loads(seen.removesuffix("atoms")) == {"d_min": float(d_min)}
    with pytest.raises(PermanentError, match="Input 'd_min' of program 'prog' is 'high'; a number"):
        step(run, definition, d_min="high", model=str(model))


OWN_FILES = {
    "directory": {"directory": "{x}"},
    "directory of a further command": {"then": [{"command": ["true"], "directory": "{x}"}]},
    "stdout": {"stdout": "{x}"},
    "option file": {
        "options": [{"block": "o"}], "option_files": [{"option": "f", "content": "text"}],
    },
}  # fmt: skip


@pytest.mark.parametrize("name", [".zwrap/other-1", "a/../.zwrap", "./.zwrap/x", ".zwrap"])
@pytest.mark.parametrize("key", OWN_FILES)
def test_no_name_out_of_a_message_leads_to_files_of_zwraps_own(
    run: Path, key: str, name: str
) -> None:
    definition = {"command": ["echo", "forged"], "inputs": {"x": {}}, **OWN_FILES[key]}
    with pytest.raises(ProgramError, match=r"\.zwrap"):
        step(run, definition, x=name, o={"f": name}).run(_Running)
    assert list(run.iterdir()) == []


def test_a_parameter_file_is_none_of_zwraps_own(run: Path) -> None:
    keys = {"prefix": "a", "file": ".zwrap/x", "argument": "x"}
    definition = {"command": ["echo"], "options": [{"block": "o"}], "parameter_files": [keys]}
    with pytest.raises(ProgramError, match=r"'\.zwrap/x' would be among zwrap's own"):
        step(run, definition, o={"a": 1}).run(_Running)


# -- standard output whose name a value chooses ----------------------------------------------------

PRINTS = {"command": ["echo", "printed"], "inputs": {"x": {}}, "stdout": "{x}"}


def test_output_under_a_name_out_of_a_message_replaces_no_file(run: Path) -> None:
    file = run / "data.mtz"
    file.write_text("measured")
    with pytest.raises(
        ProgramError, match=r"data\.mtz, which is to get the standard output, is th"
    ):
        step(run, PRINTS, x="data.mtz").run(_Running)
    assert file.read_text() == "measured"
    file.rename(run / "other")
    file.symlink_to("other")
    with pytest.raises(ProgramError, match="is there already, and zwrap has not written it"):
        step(run, PRINTS, x="data.mtz").run(_Running)
    assert file.is_symlink()


def test_output_of_an_earlier_run_is_replaced_until_somebody_changes_it(run: Path) -> None:
    file = run / "best.log"
    for word in ("one", "two", ""):
        printing = {**PRINTS, "command": ["printf", "%s", word]}
        assert step(run, printing, x=file.name).run(_Running).failures == []
        assert file.read_text() == word
        assert stat.S_IMODE(file.stat().st_mode) == 0o664 & ~_umask()
    file.write_text("a note")
    with pytest.raises(ProgramError, match="or somebody has changed it since"):
        step(run, PRINTS, x=file.name).run(_Running)
    assert file.read_text() == "a note"


def test_output_of_a_run_that_was_killed_is_replaced(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(placing, "note_output", lambda *_: None)  # as if it was not reached
        step(run, PRINTS, x="best.log").run(_Running)
    assert step(run, PRINTS, x="best.log").run(_Running).failures == []
    assert (run / "best.log").read_text() == "printed\n"


def test_a_further_command_replaces_no_file_with_its_output_either(run: Path) -> None:
    (run / "data.mtz").write_text("measured")
    definition = {
        "command": ["true"], "inputs": {"x": {}},
        "then": [{"name": "b", "command": ["echo"], "stdout": "{x}"}],
    }  # fmt: skip
    [failure] = step(run, definition, x="data.mtz").run(_Running).failures
    assert "data.mtz, which is to get the standard output, is there already" in failure
    assert (run / "data.mtz").read_text() == "measured"


def test_output_whose_name_the_definition_gives_is_replaced_as_ever(run: Path) -> None:
    (run / "seen.txt").write_text("before")
    definition = {**PRINTS, "stdout": "seen.txt"}
    assert step(run, definition).run(_Running).failures == []
    assert (run / "seen.txt").read_text() == "printed\n"
