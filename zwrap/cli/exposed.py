"""`zwrap check --security`: places on this host that others, or messages, may reach."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from zwrap.attempt.ledger.place import default_file
from zwrap.configuration.key import site_key
from zwrap.configuration.site import Configuration
from zwrap.host.exposure import is_closed, others
from zwrap.host.paths import default_spool, state_directory
from zwrap.transport.connect import EMBEDDED
from zwrap.transport.options import TransportChoice

WRITABLE = 0o775
"""Mode beyond which everybody may write."""

HARD_LINKS = Path("/proc/sys/fs/protected_hardlinks")
"""File with 1 if users may make hard links only to files that they may write (proc(5))."""


def who_else(place: Path, mode: int) -> str:
    """Return who else may read or write a place beyond a mode, as a clause; empty: nobody.

    Nobody reaches what lies in a state directory that only its user may enter.
    """
    state = state_directory()
    return "" if state in place.parents and is_closed(state) else others(place, mode)


def spool(configuration: Configuration) -> Path:
    """Return the directory of the spool."""
    given = configuration.site.spool
    return Path(given.path) if given else default_spool()


def places(configuration: Configuration, chosen: TransportChoice) -> Iterator[str]:
    """Yield a line for each place of zwrap or of the site: a warning if others may reach it."""
    for place, mode, what in _places(configuration, chosen):
        if not place.exists():
            continue
        if who := who_else(place, mode):
            kept = stat.S_IMODE(os.stat(place).st_mode) & mode
            unless = ", unless these are the senders of messages" if what == "the spool" else ""
            yield f"warning: {what} {place}: {who}. Write: chmod {kept:04o} {place}{unless}"
        else:
            yield f"good: {what} {place}"


def named_by_messages(configuration: Configuration, chosen: TransportChoice) -> Iterator[str]:
    """Yield a warning for each place that this user may change below an allowed directory."""
    directories = [Path(os.path.realpath(each)) for each in configuration.site.allowed.directories]
    found = [(place, what) for place, _, what in _places(configuration, chosen)]
    told: list[Path] = []
    for place, what in ((Path.home(), "the home directory"), *found):
        real = Path(os.path.realpath(place))
        above = next((each for each in directories if real.is_relative_to(each)), None)
        if above is None or any(map(real.is_relative_to, told)):
            continue
        if os.access(real, os.W_OK) or os.access(real.parent, os.W_OK):
            told.append(real)
            yield (
                f"warning: directories: {place} ({what}) is below {above}, so that messages may "
                "have files written there. Write 'directories' of data and results only, or move it"
            )


def environment() -> Iterator[str]:
    """Yield lines on the variables of this environment by which programs and modules are found."""
    for name, what in (("PATH", "programs"), ("PYTHONPATH", "modules of Python")):
        entries = os.environ[name].split(os.pathsep) if os.environ.get(name) else []
        is_good = True
        for entry in dict.fromkeys(entries):
            if not Path(entry).is_absolute():
                if name == "PATH":  # where it does not count
                    continue
                where = f"entry {entry!r} is where one happens to stand"
                repair = "Remove it, and a colon at either end"
            elif who := others(Path(entry), WRITABLE):
                where, repair = f"in {entry} {who}", f"Take it out, or write: chmod o-w {entry}"
            else:
                continue
            is_good = False
            yield f"warning: {name}: {where}, and {what} are found there. {repair}"
        if is_good:
            yield f"good: {name} of this environment"


def hard_links() -> Iterator[str]:
    """Yield whether users may give files of others a further name; no line: it cannot be told."""
    try:
        is_open = HARD_LINKS.read_text().strip() == "0"
    except OSError:
        return
    if is_open:
        yield (
            "warning: fs.protected_hardlinks: users of this host may give a file of this user a "
            "name below an allowed directory, where messages may have output appended to it. "
            "Write: sysctl -w fs.protected_hardlinks=1, here and on nodes"
        )
    else:
        yield "good: fs.protected_hardlinks: nobody here makes hard links to files of others"


def _places(
    configuration: Configuration, chosen: TransportChoice
) -> Iterator[tuple[Path, int, str]]:
    """Yield the places of zwrap and of the site, each with its widest mode and its name."""
    site = configuration.site
    database = site.ispyb
    credentials = database and (database.credentials or os.environ.get("ISPYB_CREDENTIALS"))
    holds_password = database is not None and database.url is not None
    wanted: list[tuple[Path | None, int, str]] = [
        (state_directory(), 0o700, "the state directory"),
        (default_file(), 0o600, "the ledger"),
        (configuration.file, 0o640 if holds_password else 0o644, "the site file"),
        (Path(credentials) if credentials else None, 0o640, "the credentials of ISPyB"),
        (site.recipe_directory, 0o755, "the recipes"),
        (site.program_directory, 0o755, "the program definitions"),
        (site.template_directory, 0o755, "the job script templates"),
    ]
    if chosen.name == EMBEDDED:
        wanted.append((spool(configuration), 0o711, "the spool"))
    wanted.append((site_key(configuration, create=False).file, 0o600, "the key of the site"))
    for place, mode, what in wanted:
        if place is not None:
            yield place, mode, what
