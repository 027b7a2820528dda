"""Address and password of ISPyB's database: from the site file, else from the environment."""

from __future__ import annotations

import configparser
import os
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

import sqlalchemy as sa

from zwrap.configuration.site import Configuration
from zwrap.errors import ConfigurationError

VARIABLE = "ISPYB_CREDENTIALS"
"""Environment variable of ispyb that names a file with credentials."""

SECTION = "ispyb_sqlalchemy"
"""Section of that file for SQLAlchemy; others are those of other connectors."""

DRIVER = "mysql+mysqlconnector"
"""Dialect and driver of SQLAlchemy: those of ispyb."""

_OPTIONS = frozenset({"ssl_ca", "ssl_cert", "ssl_key", "ssl_verify_cert", "ssl_verify_identity"})
"""Options of the connection that a URL may have."""

PORT = 3306
_NEEDED = ("username", "password", "host", "database")
_EXPECTED = f"[{SECTION}] with {', '.join(_NEEDED)} and port"


class Credentials(NamedTuple):
    """A database, and where it was described."""

    url: sa.URL
    file: Path | None
    """File with the credentials; None: they stand in the site file."""


def credentials_of(configuration: Configuration) -> Credentials:
    """Return the credentials that a site file, else the environment, gives.

    Raises:
        ConfigurationError: There are none, or they are not usable.
    """
    settings = configuration.site.ispyb
    if settings and settings.url:
        return Credentials(_from_url(settings.url, configuration), None)
    file = settings.credentials if settings and settings.credentials else os.environ.get(VARIABLE)
    if not file:
        raise ConfigurationError(
            "The database of ISPyB is not described: a section of plugin 'ispyb' with "
            f"'credentials: FILE', or environment variable {VARIABLE}, is expected; the file holds "
            f"a section {_EXPECTED}."
        )
    return Credentials(_from_file(Path(file).expanduser()), Path(file).expanduser())


def _from_url(text: str, configuration: Configuration) -> sa.URL:
    """Return the URL of a site file; ConfigurationError, without the URL, if it is not valid."""
    try:
        url = sa.make_url(text)
    except (sa.exc.ArgumentError, ValueError):
        url = None
    [*_, place] = configuration.site.places("ispyb")
    # A password with `@` puts its end before the host, and so into the log.
    if url is None or not (url.host and url.database) or "@" in url.host:
        raise ConfigurationError(
            f"{place}: 'url' is not valid; one such as "
            "mysql://user:password@host:3306/ispyb is expected, with special characters of the "
            "password percent-encoded (@ is %40)."
        )
    if not _OPTIONS.issuperset(url.query):
        raise ConfigurationError(
            f"{place}: 'url' has an option after '?' that is not taken; accepted are "
            f"{', '.join(sorted(_OPTIONS))}."
        )
    return url.set(drivername=DRIVER)


def _from_file(file: Path) -> sa.URL:
    """Return what a file of credentials says, as ``ispyb.sqlalchemy.url`` reads it."""
    parser = configparser.RawConfigParser(allow_no_value=True)
    try:
        parser.read_string(file.read_text(encoding="utf-8"), str(file))
    except OSError as error:
        raise ConfigurationError(
            f"The credentials of ISPyB cannot be read: {file}: {error.strerror}."
        ) from None
    except (configparser.Error, UnicodeError) as error:
        line = getattr(error, "lineno", None) or next(
            (number for number, _ in getattr(error, "errors", ())), None
        )
        where = f"{file}, line {line}" if line else str(file)
        raise ConfigurationError(
            f"The credentials of ISPyB are not valid: {where}: a section {_EXPECTED} is expected."
        ) from None
    if not parser.has_section(SECTION):
        raise ConfigurationError(
            f"The credentials of ISPyB, {file}, have no section {_EXPECTED}; they have "
            f"{', '.join(parser.sections()) or 'none'}."
        )
    given = dict(parser.items(SECTION))
    if missing := [key for key in _NEEDED if not given.get(key)]:
        raise ConfigurationError(
            f"The credentials of ISPyB, {file}, section [{SECTION}], lack {', '.join(missing)}."
        )
    return sa.URL.create(
        DRIVER,
        # ispyb puts them into the text of a URL, so that special characters are percent-encoded.
        username=unquote(given["username"]),
        password=unquote(given["password"]),
        host=given["host"],
        port=_port(file, given.get("port")),
        database=given["database"],
    )


def _port(file: Path, given: str | None) -> int:
    """Return the port; ConfigurationError if it is none."""
    if not given:
        return PORT
    if given.isascii() and given.isdigit() and 0 < int(given) < 65536:
        return int(given)
    raise ConfigurationError(
        f"The credentials of ISPyB, {file}, section [{SECTION}]: port is {given!r}; a number "
        "from 1 to 65535 is expected."
    )
