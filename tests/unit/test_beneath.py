"""Paths below allowed directories: whatever links there are, and whoever swaps them meanwhile."""

from __future__ import annotations

import contextlib
import itertools
import os
import stat
import time
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from zwrap.errors import MessageError, OutageError, RequestError
from zwrap.host.beneath import ANYWHERE, LINKS, AllowedDirectories, OutsideError
from zwrap.host.faults import of_named_paths
from zwrap.host.files import read_regular, write_atomically

from .swapping import SWAPPED_S, listing, swapping

SETTING = "section security, key 'directories'"
WRITE = os.O_WRONLY | os.O_CREAT


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Return a directory with ``in`` and ``two``, which are allowed, and ``out``, which is not."""
    return made(tmp_path / "a" / "b" / "c" / "d" / "e" / "f")


def made(directory: Path) -> Path:
    for name in ("in", "two", "out"):
        (directory / name).mkdir(parents=True)
    (directory / "out" / "secret").write_text("kept")
    return directory


def allowed_in(place: Path) -> AllowedDirectories:
    return AllowedDirectories([place / "in", place / "two"], SETTING)


def opened(allowed: AllowedDirectories, path: Path) -> str:
    """Return the real path of a file that is opened to write, and created."""
    descriptor = allowed.opened(path, "It", WRITE, make=True)
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


# -- the text of a path ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "holds"),
    [
        ("/dls/i03", True),
        ("/dls/i03/", True),
        ("/dls/i03/data/x", True),
        ("/dls/i03/./x", True),
        ("//dls/i03/x", True),
        ("/dls/i03x", False),
        ("/dls/i03x/y", False),
        ("/dls", False),
        ("/", False),
        ("/dls/i03/../i04", False),
        ("/dls/i03/a/../b", False),
        ("/dls/i03/..", False),
        ("/dls/i04", False),
        ("dls/i03/x", False),
    ],
)
def test_whole_parts_of_a_path_are_compared_and_none_goes_up(path: str, holds: bool) -> None:
    allowed = AllowedDirectories([Path("/dls/i03")], SETTING)
    assert allowed.holds(Path(path)) is holds
    assert ANYWHERE.holds(Path(path))


def test_a_refusal_names_place_path_directories_and_setting() -> None:
    allowed = AllowedDirectories([Path("/dls/i03"), Path("/scratch")], SETTING)
    with pytest.raises(RequestError) as refused:
        allowed.check(Path("/etc/passwd"), "Node 1, parameters, key 'recipefile'")
    assert str(refused.value) == (
        "Node 1, parameters, key 'recipefile' is '/etc/passwd', which is not below the directories "
        "that messages may name: /scratch, /dls/i03 (section security, key 'directories')."
    )
    with pytest.raises(OutsideError, match=r"^Here is '/dls/i03/\.\./x', which holds '\.\.'; a"):
        allowed.check(Path("/dls/i03/../x"), "Here")


def test_only_output_may_go_to_the_null_device() -> None:
    allowed = AllowedDirectories([Path("/dls")], SETTING)
    allowed.check_output(Path("/dev/null"), "Here")
    allowed.check_opened(Path("/dev/null"), "Here")
    with allowed.file(Path("/dev/null"), "Here") as file:
        assert file == Path("/dev/null")
    with pytest.raises(OutsideError):
        allowed.check(Path("/dev/null"), "Here")
    with pytest.raises(OutsideError):
        allowed.check_output(Path("/dev/zero"), "Here")


# -- links -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["{}/out", "../out", "../../e/f/out", "x/../../out", "..", "/"])
def test_no_link_leads_out(place: Path, target: str) -> None:
    (place / "in" / "x").mkdir()
    (place / "in" / "link").symlink_to(target.format(place))
    before = listing(place / "out")
    allowed = allowed_in(place)
    for path in (place / "in" / "link" / "new", place / "in" / "link" / "new" / "newer"):
        with pytest.raises(OutsideError, match=r"^It is '.*/in/link/new.*', which leads by a link"):
            opened(allowed, path)
        with (
            pytest.raises(OutsideError),
            allowed.directory(path, "It", make=True),
        ):
            pass
    assert listing(place / "out") == before
    assert not (place / "new").exists()


@pytest.mark.parametrize("target", ["{}/out/secret", "../out/secret", "{}/out/new", "/dev/null"])
def test_no_link_to_a_file_is_followed_out(place: Path, target: str) -> None:
    (place / "in" / "file").symlink_to(target.format(place))
    allowed = allowed_in(place)
    for act in (
        lambda: opened(allowed, place / "in" / "file"),
        lambda: allowed.check_opened(place / "in" / "file", "It"),
        lambda: allowed.file(place / "in" / "file", "It").__enter__(),
    ):
        with pytest.raises(OutsideError):
            act()
    assert [each.name for each in (place / "out").iterdir()] == ["secret"]
    assert (place / "out" / "secret").read_text() == "kept"


@pytest.mark.parametrize(
    "target", ["{}/in/real", "real", "./real", "x/../real", "{}/two/real", "../two/real", "other"]
)
def test_links_that_stay_inside_are_followed(place: Path, target: str) -> None:
    for name in ("in/real", "two/real", "in/x"):
        (place / name).mkdir()
    (place / "in" / "other").symlink_to("../in/real")
    (place / "in" / "link").symlink_to(target.format(place))
    found = opened(allowed_in(place), place / "in" / "link" / "new")
    assert found == os.path.realpath(place / "in" / "link" / "new")
    assert found in {f"{place}/{name}/real/new" for name in ("in", "two")}


def test_an_allowed_directory_may_be_known_by_another_name(place: Path) -> None:
    (place / "name").symlink_to("in")
    (place / "in" / "link").symlink_to(place / "in" / "real")
    (place / "in" / "real").mkdir()
    (place / "in" / "up").symlink_to("../two/real")
    (place / "two" / "real").mkdir()
    allowed = AllowedDirectories([place / "name", place / "two"], SETTING)
    for path in (place / "name" / "link" / "f", place / "in" / "link" / "f", place / "name/up/f"):
        assert opened(allowed, path) == os.path.realpath(path)


def test_links_in_a_circle_are_an_error_of_the_path(place: Path) -> None:
    (place / "in" / "one").symlink_to("two")
    (place / "in" / "two").symlink_to("one")
    with (
        pytest.raises(RequestError, match=f"{place}/in/one/x: Too many levels"),
        of_named_paths("No", RequestError),
    ):
        opened(allowed_in(place), place / "in" / "one" / "x")


def test_as_many_links_are_followed_as_by_the_kernel(place: Path) -> None:
    (place / "in" / "0").mkdir()
    for number in range(1, LINKS + 2):
        (place / "in" / str(number)).symlink_to(str(number - 1))
    allowed = allowed_in(place)
    for number in (LINKS, LINKS + 1):
        path = place / "in" / str(number)
        with contextlib.ExitStack() as stack:
            if number > LINKS:
                stack.enter_context(pytest.raises(OSError, match="Too many levels"))
            os.close(os.open(path, os.O_RDONLY))
        with contextlib.ExitStack() as stack:
            if number > LINKS:
                stack.enter_context(pytest.raises(OSError, match="Too many levels"))
            stack.enter_context(allowed.directory(path, "It"))


def test_the_last_parts_may_have_to_be_real(place: Path) -> None:
    (place / "in" / "work").mkdir()
    (place / "in" / "link").symlink_to("work")
    (place / "in" / "work" / ".zwrap").symlink_to(place / "two")
    allowed = allowed_in(place)
    path = place / "in" / "link" / ".zwrap" / "t-1"
    with pytest.raises(OutsideError, match=r"in which '\.zwrap' is a link; a directory is exp"):
        allowed.directory(path, "It", make=True, real=2).__enter__()
    assert list((place / "two").iterdir()) == []
    (place / "in" / "work" / ".zwrap").unlink()
    with allowed.directory(path, "It", make=True, alike=True, real=2) as directory:
        assert directory.samefile(place / "in" / "work" / ".zwrap" / "t-1")
    assert stat.S_IMODE((place / "in/work/.zwrap/t-1").stat().st_mode) == 0o2750
    assert stat.S_IMODE((place / "in/work/.zwrap").stat().st_mode) == 0o2750


def test_what_is_no_regular_file_is_not_written(place: Path) -> None:
    os.mkfifo(place / "in" / "fifo")
    allowed = allowed_in(place)
    with pytest.raises((OutsideError, OSError)):
        opened(allowed, place / "in" / "fifo")
    reader = os.open(place / "in" / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    with pytest.raises(OutsideError, match="which is no regular file"):
        opened(allowed, place / "in" / "fifo")
    os.close(reader)


NAMES = st.sampled_from(["a", "b", "c"])
INSIDE = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
UP = st.lists(NAMES | st.just(".."), min_size=1, max_size=5).map("/".join)
TARGETS = st.tuples(st.sampled_from(["", "{}/in/", "{}/two/", "{}/out/", "{}/"]), UP).map("".join)
CLEAN = st.tuples(st.sampled_from(["", "{}/in/", "{}/two/"]), INSIDE).map("".join)

_serial = itertools.count()


def grown(directory: Path, entries: list[tuple[str, str | None]]) -> Path:
    """Return a new place with directories and links, the targets of which are given."""
    place = made(directory / str(next(_serial)) / "a" / "b" / "c" / "d" / "e" / "f")
    for name, target in entries:
        path = place / "in" / name
        with contextlib.suppress(OSError):
            if not Path(os.path.realpath(path.parent)).is_relative_to(place):
                continue
            if target is None:
                path.mkdir(parents=True)
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.symlink_to(target.format(place))
    return place


@given(st.lists(st.tuples(INSIDE, st.none() | TARGETS), max_size=8), INSIDE)
def test_whatever_links_there_are_what_is_opened_is_inside(
    tmp_path: Path, entries: list[tuple[str, str | None]], wanted: str
) -> None:
    place = grown(tmp_path, entries)
    before, beside = listing(place / "out"), sorted(os.listdir(place))
    path = place / "in" / wanted
    with contextlib.suppress(OutsideError, OSError):
        found = Path(opened(allowed_in(place), path))
        assert found.is_relative_to(place / "in") or found.is_relative_to(place / "two")
        assert found == Path(os.path.realpath(path))
    with (
        contextlib.suppress(OutsideError, OSError),
        allowed_in(place).directory(path, "It", make=True) as directory,
    ):
        found = Path(os.readlink(directory))
        assert found.is_relative_to(place / "in") or found.is_relative_to(place / "two")
        assert found == Path(os.path.realpath(path))
    assert listing(place / "out") == before
    assert sorted(os.listdir(place)) == beside


@given(st.lists(st.tuples(INSIDE, st.none() | CLEAN), max_size=8), INSIDE)
def test_what_stays_inside_is_opened_as_by_the_kernel(
    tmp_path: Path, entries: list[tuple[str, str | None]], wanted: str
) -> None:
    place = grown(tmp_path, entries)
    path = place / "in" / wanted
    try:
        os.close(os.open(path, os.O_PATH | os.O_DIRECTORY))
    except OSError as error:
        expected: object = error.errno
    else:
        expected = os.path.realpath(path)
    found: object = None
    try:
        with allowed_in(place).directory(path, "It") as directory:
            found = os.readlink(directory)
    except OSError as error:
        found = error.errno
    assert found == expected


# -- what is yielded -------------------------------------------------------------------------------


def test_functions_of_files_work_below_an_open_directory(place: Path) -> None:
    with allowed_in(place).directory(place / "in" / "x", "It", make=True) as directory:
        (place / "in" / "x").rename(place / "two" / "y")
        (place / "in" / "x").symlink_to(place / "out")
        write_atomically(directory / "file", "text")
        assert read_regular(directory / "file", None) == b"text"
    assert (place / "two" / "y" / "file").read_text() == "text"
    assert [each.name for each in (place / "out").iterdir()] == ["secret"]


def test_errors_name_the_real_path(place: Path) -> None:
    allowed = allowed_in(place)
    with (
        pytest.raises(FileNotFoundError) as missing,
        allowed.directory(place / "in", "It") as directory,
    ):
        read_regular(directory / "x", None)
    assert missing.value.filename == f"{place}/in/x"
    with (
        pytest.raises(MessageError, match=f"^{place}/in/x is bad"),
        allowed.directory(place / "in", "It") as directory,
    ):
        raise MessageError(f"{directory}/x is bad, and {directory}0 is another.")
    with pytest.raises(NotADirectoryError) as no_directory:
        opened(AllowedDirectories([place / "out"]), place / "out" / "secret" / "x")
    assert no_directory.value.filename == f"{place}/out/secret/x"


def test_a_filesystem_that_is_away_is_no_fault_of_the_path(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stale(*_: object, **__: object) -> int:
        raise OSError(116, "Stale file handle", "x")

    monkeypatch.setattr("zwrap.host.walking.os.open", stale)
    with pytest.raises(OutageError), of_named_paths("No", RequestError):
        opened(allowed_in(place), place / "in" / "x")


def test_no_descriptor_is_left_open(place: Path) -> None:
    (place / "in" / "link").symlink_to(place / "out")
    (place / "in" / "file").touch()
    allowed = allowed_in(place)
    before = len(os.listdir("/proc/self/fd"))
    for path in ("in/a/b/c", "in/link/x", "in/file/x", "in/file", "in/../x", "gone/x"):
        with contextlib.suppress(OSError, OutsideError):
            opened(allowed, place / path)
        with (
            contextlib.suppress(OSError, OutsideError),
            allowed.directory(place / path, "It", make=True, alike=True),
        ):
            pass
    assert len(os.listdir("/proc/self/fd")) == before


def test_without_a_restriction_all_is_as_ever(place: Path) -> None:
    (place / "in" / "link").symlink_to(place / "out")
    path = place / "in" / "link" / "new"
    with ANYWHERE.directory(path, "It", make=True) as directory:
        assert directory == path
    assert (place / "out" / "new").is_dir()
    with ANYWHERE.file(path / "file", "It") as file:
        assert file == path / "file"
    assert not (path / "file").exists()
    assert opened(ANYWHERE, path / "file") == f"{place}/out/new/file"
    ANYWHERE.check_opened(place / "in" / ".." / "x", "It")


# -- another user, who swaps directories -----------------------------------------------------------


def test_who_swaps_directories_for_links_gains_no_write_outside(place: Path) -> None:
    for name in ("in/work/.zwrap", "out/.zwrap/t", "out/work"):
        (place / name).mkdir(parents=True)
    allowed = allowed_in(place)
    written = refused = 0
    with swapping(place / "in", place / "out"):
        before = listing(place / "out")
        until = time.monotonic() + SWAPPED_S
        while time.monotonic() < until:
            try:
                job = place / "in" / "work" / ".zwrap" / "t"
                with allowed.directory(job, "It", make=True, alike=True, real=2) as directory:
                    write_atomically(directory / "script", "text", durable=False)
                os.close(allowed.opened(place / "in/work/x/lines", "It", WRITE, make=True))
                with allowed.file(place / "in" / "work" / "output", "It") as file:
                    file.write_text("printed")
                written += 1
            except (OutsideError, OSError):
                refused += 1
    assert written
    assert refused
    assert listing(place / "out") == before
