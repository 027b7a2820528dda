"""Beside python-zocalo in one environment: whose commands there are, and whose wrapper runs."""

from __future__ import annotations

import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

from zwrap.cli import beside, service as service_command, serving, start
from zwrap.compat.workflows.services.known import lookup
from zwrap.errors import PermanentError, ProgramError, TemporaryError, UnknownNameError
from zwrap.host.commands import other_owner
from zwrap.job import JobRequest, Resources
from zwrap.plugins.registry import OWN, PROGRAMS
from zwrap.program import choice
from zwrap.program.choice import Choice
from zwrap.program.definition import SHIPPED_PROGRAMS
from zwrap.program.reading import find_program
from zwrap.service.dispatcher import Dispatcher
from zwrap.service.mailer import Mailer
from zwrap.submission.script import own_programs
from zwrap.submission.template import Templates
from zwrap.transport.connect import transport_class
from zwrap.wrapper.python import DummyWrapper
from zwrap.wrapper.replay import replay

from .installed import install

SCRIPT = """#!/env/bin/python
# -*- coding: utf-8 -*-
import re
import sys
from {module} import {name}
if __name__ == '__main__':
    sys.argv[0] = re.sub(r'(-script\\.pyw|\\.exe)?$', '', sys.argv[0])
    sys.exit({name}())
"""
"""What pip writes for an entry point of `console_scripts`."""

LONG = """#!/bin/sh
'''exec' "/a/long/path to/zwrap/bin/python" "$0" "$@"
' '''
import sys
from zocalo.cli.wrap import run
if __name__ == "__main__":
    sys.exit(run.now())
"""

OLD = """#!/env/bin/python
# EASY-INSTALL-ENTRY-SCRIPT: 'zocalo==0.26.0','console_scripts','zocalo.wrap'
import sys
from pkg_resources import load_entry_point
if __name__ == '__main__':
    sys.exit(
        load_entry_point('zocalo==0.26.0', 'console_scripts', 'zocalo.wrap')()
    )
"""


# -- commands ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "owner"),
    [
        (SCRIPT.format(module="zocalo.cli.wrap", name="run"), "zocalo.cli.wrap"),
        (SCRIPT.format(module="zwrap.cli.start", name="wrap"), ""),
        (SCRIPT.format(module="zwrapper.start", name="wrap"), "zwrapper.start"),
        (LONG, "zocalo.cli.wrap"),
        (OLD, "zocalo"),
        (OLD.replace("zocalo==", "zwrap=="), ""),
        ("#!/bin/sh\nmodule load zwrap\nexec python -m zwrap.cli.wrap \"$@\"\n", ""),
        ("\x7fELF\xff", ""),
    ],
)  # fmt: skip
def test_a_command_is_another_s_if_it_is_seen_to_start_that(
    tmp_path: Path, text: str, owner: str
) -> None:
    file = tmp_path / "zocalo.wrap"
    file.write_text(text)
    assert other_owner(file) == owner
    assert other_owner(tmp_path / "gone") == ""


@pytest.fixture
def env(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the directory of the commands of an environment in which zwrap is installed."""
    place = tmp_path / "env" / "bin"
    place.mkdir(parents=True)
    for name, target in OWN[PROGRAMS].items():
        module, _, function = target.partition(":")
        (place / name).write_text(SCRIPT.format(module=module, name=function))
        (place / name).chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(place / "python"))
    monkeypatch.setattr(sys, "path", [str(tmp_path / "env" / "packages")])
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.delenv("PYTHONPATH", raising=False)
    (tmp_path / "env" / "packages").mkdir()
    return place


def take(env: Path, *names: str) -> None:
    """Let zocalo have these commands, as its installation leaves them."""
    for name in names:
        module = f"zocalo.cli.{name.partition('.')[2]}"
        (env / name).write_text(SCRIPT.format(module=module, name="run"))


def test_a_job_has_the_wrapper_of_zwrap_whoever_has_its_name(env: Path, tmp_path: Path) -> None:
    wrap, zwrap = env / "zocalo.wrap", env / "zwrap"
    assert own_programs() == [wrap, zwrap]
    assert "zocalo.wrap || exit" not in script(tmp_path)
    take(env, "zocalo.wrap")
    assert own_programs() == [zwrap]
    text = script(tmp_path)
    wrap.unlink()
    assert own_programs() == [zwrap]
    assert script(tmp_path) == text
    subprocess.run(["bash", "-c", text], check=True, cwd=tmp_path)
    linked = tmp_path / ".zwrap" / "t-1" / "bin" / "zocalo.wrap"
    assert linked.resolve() == zwrap
    zwrap.unlink()
    with pytest.raises(TemporaryError, match=f"zwrap of this installation was not found in {env}"):
        own_programs()


def script(directory: Path) -> str:
    """Return the script of a job."""
    request = JobRequest(
        token="t-1",
        job_name="n",
        cluster="local",
        working_directory=directory,
        job_directory=directory / ".zwrap" / "t-1",
        standard_output=directory / "out",
        standard_error=directory / "err",
        environment={},
        resources=Resources(),
        commands="true",
    )
    return Templates().render("local.sh.j2", request, None, own_programs())


@pytest.mark.parametrize("by_link", [True, False])
@pytest.mark.parametrize("name", ["zocalo.wrap", "zocalo.go", "zocalo.service", "amqp-dispatcher"])
def test_each_command_is_there_by_way_of_zwrap(
    name: str, by_link: bool, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [f"/job/bin/{name}" if by_link else "/env/bin/zwrap"])
    with pytest.raises(SystemExit) as ended:
        start.main(["--help"] if by_link else [name, "--help"])
    assert ended.value.code == 0
    assert f"usage: {name} " in capfd.readouterr().out


def test_zwrap_s_own_commands_are_there_as_ever(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["/env/bin/zwrap"])
    for given in (["--help"], ["zocalo.of_others"]):
        with pytest.raises(SystemExit):
            start.main(given)
    shown = capsys.readouterr()
    assert "zwrap zocalo.go ..." in shown.out
    assert "Unknown command 'zocalo.of_others'" in shown.err


def test_check_names_commands_of_others_and_what_to_do(env: Path) -> None:
    assert list(beside.lines(None)) == []
    take(env, "zocalo.go", "zocalo.wrap")
    (env / "zocalo.shutdown").unlink()
    taken, gone = beside.lines(None)
    assert taken.startswith(
        f"warning: commands in {env} are those of another distribution: zocalo.go (zocalo.cli.go), "
        "zocalo.wrap (zocalo.cli.wrap). zwrap's are there as 'zwrap zocalo.go'"
    )
    assert "pip install --force-reinstall --no-deps zwrap" in taken
    assert gone.startswith(f"warning: commands are missing in {env}: zocalo.shutdown. ")
    assert "'zwrap zocalo.shutdown' and so on do the same" in gone


def test_check_warns_before_an_uninstallation_takes_commands_along(env: Path) -> None:
    install(env.parent / "packages", "zocalo-1.5.0.dist-info", "")
    [line] = beside.lines(None)
    assert line.startswith("warning: zocalo 1.5.0 is installed here, too")
    assert "'pip uninstall zocalo' removes them" in line


def test_a_transport_of_python_workflows_is_refused_with_a_sentence(
    env: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages = env.parent / "packages"
    install(packages, "w-3.dist-info", "[workflows.transport]\nOffline = beside_offline:Offline")
    (packages / "beside_offline.py").write_text("class Offline:\n    pass\n")
    with pytest.raises(PermanentError, match=r"Transport 'Offline' .* is not one of zwrap"):
        transport_class("Offline")
    del sys.modules["beside_offline"]


# -- wrappers ----------------------------------------------------------------------------------

WRAPPERS = "[zocalo.wrappers]\n"


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a directory with `packages`, which is on the path, `programs` and `further`."""
    for name in ("packages", "programs", "further"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path / "packages")])
    monkeypatch.delenv("PYTHONPATH", raising=False)
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("beside_")]:
        del sys.modules[name]


def test_what_a_site_installs_goes_before_what_is_shipped(places: Path) -> None:
    shipped = f"definition {SHIPPED_PROGRAMS / 'xia2.yaml'}"
    assert str(Choice.of("xia2")) == f"wrapper 'xia2' is {shipped}"
    install(places / "packages", "facility-2.1.dist-info", f"{WRAPPERS}xia2 = facility.wrap:Xia2")
    owned = f"class facility.wrap:Xia2 of distribution facility 2.1 in {places / 'packages'}"
    told = f"wrapper 'xia2' is {owned}; it goes before {shipped}, which '--wrap zwrap:xia2' names"
    assert str(Choice.of("xia2")) == told
    assert list(beside.lines(places / "programs"))[-1] == told
    (places / "programs" / "xia2.yaml").write_text("command: [mine]\n")
    first = Choice.of("xia2", places / "programs")
    assert first.entry is None
    assert str(first).startswith(
        f"wrapper 'xia2' is definition {places / 'programs' / 'xia2.yaml'}"
    )
    assert f"goes before {owned} and {shipped}, which" in str(first)


@pytest.mark.parametrize("directory", [None, "programs"])
def test_the_shipped_one_has_a_name_of_its_own(places: Path, directory: str | None) -> None:
    install(
        places / "packages", "facility-2.1.dist-info",
        f"{WRAPPERS}xia2 = f:X\ndummy = f:D\ncommand = f:C\nother = f:O",
    )  # fmt: skip
    (places / "programs" / "xia2.yaml").write_text("command: [mine]\n")
    site = places / directory if directory else None
    assert str(Choice.of("zwrap:xia2", site)).endswith(str(SHIPPED_PROGRAMS / "xia2.yaml"))
    found = find_program("zwrap:xia2", {}, site)
    assert found
    assert found.command == ["{executable}", "{arguments}"]
    dummy = Choice.of("zwrap:dummy", site).entry
    assert dummy
    assert choice.load(dummy) is DummyWrapper
    assert "the command in the step's job_parameters" in str(Choice.of("zwrap:command", site))
    assert Choice.of("command", site).entry
    with pytest.raises(UnknownNameError, match="Unknown wrapper 'zwrap:other'"):
        Choice.of("zwrap:other", site)


def test_what_python_zocalo_ships_comes_last(places: Path) -> None:
    install(
        places / "packages", "zocalo-1.5.0.dist-info", f"{WRAPPERS}dummy = zocalo.w:D\nnew = z:N"
    )
    entry = Choice.of("dummy").entry
    assert entry
    assert (entry.distribution, entry.value) == ("zwrap", OWN["zocalo.wrappers"]["dummy"])
    later = Choice.of("new").entry
    assert later
    assert later.distribution == "zocalo"


def test_a_wrapper_in_pythonpath_is_found_after_those_of_the_environment(
    places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A module file of a site sets PYTHONPATH; it does not decide what zwrap itself imports."""
    further = places / "further"
    install(further, "mine-1.dist-info", f"{WRAPPERS}mine = beside_mine:Mine\nboth = beside_mine:M")
    (further / "beside_mine.py").write_text("import beside_helper\nMine = beside_helper.NAME\n")
    (further / "beside_helper.py").write_text("NAME = 'of PYTHONPATH'\n")
    (places / "packages" / "beside_helper.py").write_text("NAME = 'of the environment'\n")
    install(places / "packages", "site-1.dist-info", f"{WRAPPERS}both = site:S")
    monkeypatch.setenv("PYTHONPATH", f"relative::{further}")
    entry = Choice.of("mine").entry
    assert entry
    assert entry.place == str(further)
    assert choice.load(entry) == "of the environment"
    assert sys.path == [str(places / "packages"), str(further)]
    both = Choice.of("both").candidates
    assert [each.entry.distribution for each in both if each.entry] == ["site", "mine"]


def test_an_unknown_wrapper_is_refused_with_the_places_that_were_searched(
    places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(places / "further", "mine-1.dist-info", f"{WRAPPERS}mine = beside_mine:Mine")
    monkeypatch.chdir(places)
    monkeypatch.setenv("PYTHONPATH", f"further:{places / 'packages'}")
    with pytest.raises(UnknownNameError) as refused:
        Choice.of("mine")
    text = str(refused.value)
    assert text.startswith("Unknown wrapper 'mine'.")
    assert f"were looked for in the environment of zwrap, {sys.prefix}, and in PYTHONPATH" in text
    assert text.endswith("Of its entries ['further'] do not count, because they are not absolute.")
    monkeypatch.delenv("PYTHONPATH")
    with pytest.raises(UnknownNameError) as refused:
        Choice.of("mine")
    assert "PYTHONPATH" not in str(refused.value)


def test_a_class_that_cannot_be_imported_is_named_with_the_reason(places: Path) -> None:
    install(places / "packages", "lame-1.dist-info", f"{WRAPPERS}lame = beside_lame:Lame")
    (places / "packages" / "beside_lame.py").write_text("import beside_library\n")
    entry = Choice.of("lame").entry
    assert entry
    with pytest.raises(PermanentError) as refused:
        choice.load(entry)
    assert str(refused.value).startswith(
        f"The class beside_lame:Lame of distribution lame 1 in {places / 'packages'} cannot be "
        "imported: ModuleNotFoundError: No module named 'beside_library'. Modules are looked for"
    )


def test_a_run_of_a_class_is_not_judged_by_the_shipped_definition_of_its_name(
    places: Path, tmp_path: Path
) -> None:
    install(places / "packages", "facility-2.1.dist-info", f"{WRAPPERS}gemmi-merge = f:X")
    file = tmp_path / "rw.json"
    file.write_text('{"recipe": {"start": [[1, []]], "1": {}}, "recipe-pointer": 1}')
    with pytest.raises(
        ProgramError, match=r"cannot be replayed: wrapper 'gemmi-merge' is class f:X"
    ):
        replay(tmp_path, wrapper="gemmi-merge", envelope_file=file, copy=False)
    with pytest.raises(ProgramError, match="needs input 'unmerged'"):
        replay(tmp_path, wrapper="zwrap:gemmi-merge", envelope_file=file, copy=False)


def attempt_of(directory: Path, verdict: str) -> None:
    """Leave what an attempt in a working directory leaves."""
    attempt = directory / ".zwrap" / "t-1"
    attempt.mkdir(parents=True)
    (attempt / "envelope.json").write_text(
        '{"recipe": {"start": [[1, []]], "1": {}}, "recipe-pointer": 1}'
    )
    (attempt / "verdict.json").write_text(
        '{"token": "t-1", "outcome": "success", "witness": "wrapper", "cause": "", "job_id": "1",'
        f' "exit_status": 0, {verdict}}}'
    )


@pytest.mark.usefixtures("places")
def test_a_replay_judges_by_what_ran_and_not_by_what_has_its_name(tmp_path: Path) -> None:
    site = tmp_path / "definitions"
    site.mkdir()
    (site / "gemmi-merge.yaml").write_text("name: gemmi-merge\ncommand: ['true']\n")
    run = tmp_path / "run"
    attempt_of(run, '"program": "gemmi-merge"')
    assert replay(run, programs=site, copy=False).failures == []
    shipped = tmp_path / "shipped"
    attempt_of(shipped, '"program": "zwrap:gemmi-merge"')
    with pytest.raises(ProgramError, match="needs input 'unmerged'"):
        replay(shipped, programs=site, copy=False)
    by_class = tmp_path / "class"
    attempt_of(by_class, '"program": "gemmi-merge", "wrapper_class": "facility:Merge"')
    with pytest.raises(ProgramError, match="class facility:Merge ran as wrapper 'gemmi-merge'"):
        replay(by_class, programs=site, copy=False)
    assert replay(by_class, wrapper="gemmi-merge", programs=site, copy=False).failures == []


def test_what_an_odd_name_may_not_reach_is_unknown(places: Path) -> None:
    for name in ("../xia2", "zwrap:../xia2", "zwrap:", ""):
        with pytest.raises(UnknownNameError):
            Choice.of(name, places / "programs")


# -- services and configuration plug-ins --------------------------------------------------------

SERVICE = """
from zwrap.service.contract import Service


class Mailer(Service):
    pass
"""


def test_a_service_of_a_site_goes_before_that_of_zwrap_which_is_told(places: Path) -> None:
    packages = places / "packages"
    install(
        packages, "facility-2.1.dist-info", "[workflows.services]\nMailer = beside_services:Mailer"
    )
    (packages / "beside_services.py").write_text(SERVICE)
    told = (
        f"'Mailer' is class beside_services:Mailer of distribution facility 2.1 in {packages}; it "
        "goes before class zwrap.service.mailer:Mailer of distribution zwrap, which "
        "'-s zwrap:Mailer' names"
    )
    found = service_command.load_service("Mailer")
    assert found.__module__ == "beside_services"
    assert service_command.described("Mailer") == told
    assert lookup("Mailer") is found
    assert service_command.load_service("zwrap:Mailer") is Mailer
    assert f"service {told}" in list(beside.lines(None))


def test_a_service_of_python_zocalo_does_not_go_before_that_of_zwrap(places: Path) -> None:
    named = "[workflows.services]\nDispatcher = zocalo.service.dispatcher:Dispatcher"
    install(places / "packages", "zocalo-1.5.0.dist-info", named)
    assert service_command.load_service("Dispatcher") is Dispatcher
    assert lookup("Dispatcher") is Dispatcher
    first = "'Dispatcher' is class zwrap.service.dispatcher:Dispatcher of distribution zwrap; it"
    assert service_command.described("Dispatcher").startswith(first)


def test_the_log_of_a_service_begins_with_its_class(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[str] = []
    idle = types.SimpleNamespace(run=lambda: None)
    monkeypatch.setattr(serving, "_set_up_logging", lambda *_: told.append("logging is set up"))
    monkeypatch.setattr(serving, "Serving", lambda *_: told.extend(caplog.messages) or idle)
    with caplog.at_level("INFO"):
        assert service_command.main(["-s", "zwrap:Mailer"]) == 0
    assert told == ["logging is set up", "The service 'Mailer' is zwrap's own"]


def test_the_service_of_zwrap_is_named_by_its_beginning_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran: list[str] = []
    monkeypatch.setattr(service_command, "_run", lambda *given: ran.append(given[-1]) or 0)
    assert service_command.main(["-s", "zwrap:mail"]) == 0
    assert ran == ["zwrap:Mailer"]
    assert service_command.main(["-s", "zwrap:Nobody"]) == 100
    assert "Unknown service 'Nobody'" in capsys.readouterr().err


def test_check_names_a_configuration_plugin_that_is_hidden(places: Path) -> None:
    group = "[zocalo.configuration.plugins]\n"
    packages = places / "packages"
    install(packages, "facility-2.1.dist-info", f"{group}limits = f.c:Limits\nmine = f.c:Mine")
    install(packages, "zocalo-1.5.0.dist-info", f"{group}storage = zocalo.configuration.s:Storage")
    warnings = [line for line in beside.lines(None) if "configuration plugin" in line]
    assert len(warnings) == 1
    assert "configuration plugin 'limits' is zwrap's own; class f.c:Limits of" in warnings[0]
