"""The ledger as commands open it that only read it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from zwrap.attempt.ledger.ledger import Ledger
from zwrap.attempt.ledger.place import has_ledger
from zwrap.attempt.ledger.selection import Selection
from zwrap.attempt.record import REJECTED
from zwrap.configuration.site import Configuration
from zwrap.errors import ZwrapError
from zwrap.submission.clusters import Clusters


@contextlib.contextmanager
def ledger_of(configuration: Configuration) -> Iterator[Ledger]:
    """Yield the ledger of the site; where there is none it is an empty one, which is not kept."""
    ledger = Ledger.of(configuration) if has_ledger(configuration) else Ledger("sqlite://")
    with contextlib.closing(ledger):
        yield ledger


def newest_directories(configuration: Configuration) -> list[Path]:
    """Return the directory of each cluster's newest job, if it is visible on this host."""
    clusters, found = Clusters(configuration), []
    with ledger_of(configuration) as ledger:
        for name in sorted(clusters.described()):
            newest = ledger.queries.newest(20, Selection(clusters=[name]))
            shown = [each for each in newest if each.state != REJECTED]  # it may have no directory
            with contextlib.suppress(ZwrapError):
                if shown and clusters.get(name).settings.shared_filesystem:
                    found.append(Path(shown[-1].job_directory))
    return [directory for directory in found if directory.is_dir()]
