"""The section `ispyb` of a site file: credentials, and who may read them."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa
from ispyb.sqlalchemy import url as of_ispyb

from zwrap.configuration.site import Configuration
from zwrap.errors import ConfigurationError, OutageError
from zwrap.service.ispyb.credentials import credentials_of
from zwrap.service.ispyb.database import Database

LINES = {
    "username": "user", "password": "p%40ss:w/rd#1", "host": "db.test", "port": "3307",
    "database": "ispyb_build",
}  # fmt: skip


def credentials(directory: Path, section: str = "ispyb_sqlalchemy", **changes: str | None) -> Path:
    lines = {key: value for key, value in (LINES | changes).items() if value is not None}
    file = directory / "ispyb.cfg"
    file.write_text("\n".join([f"[{section}]", *(f"{k} = {v}" for k, v in lines.items())]))
    return file


def site(directory: Path, *lines: str, more: str = "") -> Configuration:
    section = "\n".join(f"  {line}" for line in ("plugin: ispyb", *lines))
    file = directory / "site.yml"
    file.write_text(f"version: 1\nenvironments: {{default: [db]}}\ndb:\n{section}\n{more}")
    return Configuration.from_file(file).activate()


def test_a_file_of_credentials_is_read_as_ispyb_reads_it(tmp_path: Path) -> None:
    file = credentials(tmp_path)
    found = credentials_of(site(tmp_path, "credentials: ispyb.cfg"))
    assert found.file == file
    assert found.url == sa.make_url(of_ispyb(str(file)))
    assert found.url.password == "p@ss:w/rd#1"


def test_without_a_section_the_environment_names_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ISPYB_CREDENTIALS", str(credentials(tmp_path, port=None)))
    for configuration in (Configuration(), site(tmp_path)):
        assert credentials_of(configuration).url.host == "db.test"
        assert credentials_of(configuration).url.port == 3306


@pytest.mark.parametrize("scheme", ["mysql", "mariadb", "mysql+mysqlconnector"])
def test_a_url_stands_in_place_of_a_file(tmp_path: Path, scheme: str) -> None:
    found = credentials_of(site(tmp_path, f"url: {scheme}://u:p%40s@h:3310/d"))
    assert found.file is None
    assert found.url == sa.make_url("mysql+mysqlconnector://u:p%40s@h:3310/d")


def test_an_option_of_a_url_that_has_a_wrong_value_is_told(tmp_path: Path) -> None:
    described = site(tmp_path, "url: mysql://u:secret@h/d?ssl_verify_cert=maybe")
    with pytest.raises(ConfigurationError, match=r"h:3306/d is not valid: .*'maybe'") as caught:
        Database.of(described)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (["url: postgresql://u:secret@h/d"], "a URL such as mysql://user:password@host:3306/ispyb"),
        (["url: mysql://u:secret@h"], "'url' is not valid"),
        (["url: mysql://u:secret@h:x/d"], "'url' is not valid"),
        (["url: mysql://u:se@cret@h/d"], "special characters of the password percent-encoded"),
        (["url: mysql://u:secret@h/d?read_timeout=x"], r"an option after '\?' that is not taken"),
        (["url: mysql://u:secret@h/d", "credentials: f"], "'url' and 'credentials' are both given"),
        (["remembered_days: 0"], "a whole number >= 1 is expected"),
        (["credential: f"], "credential"),
        (
            ["parameters: {working: /x}"],
            "'working' is no name for a parameter of the look-up; one ",
        ),
        (["parameters: [a]"], "a mapping is expected, not a list"),
        (["look_up: 1"], "true or false is expected"),
        (["credentials: missing.cfg"], "missing.cfg: No such file or directory"),
    ],
)
def test_a_wrong_section_is_told_without_its_secrets(
    tmp_path: Path, lines: list[str], told: str
) -> None:
    with pytest.raises(ConfigurationError, match=told) as caught:
        credentials_of(site(tmp_path, *lines))
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("section", "changes", "told"),
    [
        ("ispyb_mariadb_sp", {}, r"have no section \[ispyb_sqlalchemy\].*they have ispyb_mariadb"),
        ("ispyb_sqlalchemy", {"password": None, "host": ""}, "lack password, host"),
        ("ispyb_sqlalchemy", {"port": "none"}, "port is 'none'; a number from 1 to 65535"),
        ("ispyb_sqlalchemy", {"port": "70000"}, "port is '70000'; a number from 1 to 65535"),
        ("a]\n[a", {}, "line 2: a section"),
    ],
)
def test_wrong_credentials_are_told_without_the_password(
    tmp_path: Path, section: str, changes: dict[str, str | None], told: str
) -> None:
    file = credentials(tmp_path, section, **changes)
    with pytest.raises(ConfigurationError, match=told) as caught:
        credentials_of(site(tmp_path, "credentials: ispyb.cfg"))
    assert str(file) in str(caught.value)
    assert "ss:w" not in str(caught.value)


def test_a_database_that_is_not_described_is_told_with_what_to_write(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"section of plugin 'ispyb'.*ISPYB_CREDENTIALS"):
        Database.of(Configuration())


def test_a_server_that_is_not_there_is_an_outage_without_the_password(tmp_path: Path) -> None:
    database = Database.of(site(tmp_path, "url: mysql://u:secret@127.0.0.1:1/d"))
    with pytest.raises(OutageError, match=r"127\.0\.0\.1:1/d cannot be used: 2003") as caught:
        database.transact(lambda connection: None)
    assert "secret" not in str(caught.value)
