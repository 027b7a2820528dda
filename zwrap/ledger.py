"""The ledger: one row per attempt, written before a job is submitted and read before any retry.

SQLite on a local disk (write-ahead log), or any server that SQLAlchemy speaks to. Jobs never
open it.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa

from zwrap.errors import ConfigurationError, TemporaryError

INTENDED, SUBMITTED, REJECTED = "intended", "submitted", "rejected"

NETWORK_FILESYSTEMS = {
    "nfs", "nfs4", "lustre", "gpfs", "beegfs", "cifs", "smb3", "ceph", "glusterfs", "afs",
    "fuse.sshfs", "fuse.glusterfs", "pvfs2", "9p",
}  # fmt: skip

_metadata = sa.MetaData()

_attempts = sa.Table(
    "attempts",
    _metadata,
    sa.Column("token", sa.String(80), primary_key=True),
    sa.Column("recipe_id", sa.String(80), index=True),
    sa.Column("step", sa.Integer),
    sa.Column("cluster", sa.String(80), nullable=False),
    sa.Column("job_name", sa.String(255), nullable=False),
    sa.Column("job_directory", sa.Text, nullable=False),
    sa.Column("job_id", sa.String(80), index=True),
    sa.Column("state", sa.String(20), nullable=False, index=True),
    sa.Column("reason", sa.Text),
    sa.Column("created", sa.Float, nullable=False),
    sa.Column("tried", sa.Float, nullable=False),
)


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the ledger."""

    token: str
    recipe_id: str | None
    step: int | None
    cluster: str
    job_name: str
    job_directory: str
    job_id: str | None = None
    state: str = INTENDED
    reason: str | None = None
    created: float = 0.0
    """When the intent was written, seconds since the epoch."""
    tried: float = 0.0
    """When the batch system was last about to be asked."""


class Ledger:
    """All attempts of a site."""

    def __init__(self, url: str) -> None:
        options: dict[str, Any] = {}
        if url.startswith("sqlite"):
            options["connect_args"] = {"timeout": 30}
        self._url = url
        self._engine = sa.create_engine(url, **options)
        if url.startswith("sqlite"):
            sa.event.listen(self._engine, "connect", _sqlite_settings)
        with self._transaction() as connection:
            _metadata.create_all(connection)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sa.Connection]:
        """A transaction; TemporaryError when the database cannot be used now."""
        try:
            with self._engine.begin() as connection:
                yield connection
        except sa.exc.OperationalError as error:
            reason = str(error.orig or error).splitlines()[0]
            raise TemporaryError(f"The ledger {self._url} cannot be used: {reason}.") from None

    @classmethod
    def in_file(cls, path: Path) -> Ledger:
        """The SQLite ledger in a file; a network filesystem under it is refused."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(
                f"The directory of the ledger, {path.parent}, cannot be made: {error.strerror}."
            ) from None
        kind = filesystem_of(path.parent)
        if kind in NETWORK_FILESYSTEMS:
            raise ConfigurationError(
                f"The ledger {path} would lie on a network filesystem ({kind}), where SQLite can "
                "lose or damage it. Set ZWRAP_STATE to a directory on a local disk."
            )
        return cls(f"sqlite:///{path}")

    def intend(self, attempt: Attempt) -> tuple[Attempt, bool]:
        """Write the intent; the row as it stands, and whether it is new."""
        now = time.time()
        row = msgspec.structs.asdict(
            msgspec.structs.replace(attempt, state=INTENDED, created=now, tried=now)
        )
        try:
            with self._transaction() as connection:
                connection.execute(_attempts.insert().values(**row))
        except sa.exc.IntegrityError:
            existing = self.get(attempt.token)
            if existing is not None:
                return existing, False
            raise
        return Attempt(**row), True

    def try_again(self, attempt: Attempt) -> bool:
        """Reserve the next submission of an unfinished attempt; False if another did."""
        mine = _attempts.c.token == attempt.token, _attempts.c.tried == attempt.tried
        with self._transaction() as connection:
            change = _attempts.update().where(*mine).values(tried=time.time(), state=INTENDED)
            return connection.execute(change).rowcount == 1

    def record(self, token: str, state: str, **values: Any) -> None:
        """Write what became of an attempt."""
        with self._transaction() as connection:
            change = _attempts.update().where(_attempts.c.token == token)
            connection.execute(change.values(state=state, **values))

    def get(self, token: str) -> Attempt | None:
        """One attempt."""
        with self._transaction() as connection:
            query = sa.select(_attempts).where(_attempts.c.token == token)
            row = connection.execute(query).mappings().first()
        return Attempt(**row) if row else None

    def all(self) -> list[Attempt]:
        """Every attempt, oldest first."""
        with self._transaction() as connection:
            rows = connection.execute(sa.select(_attempts).order_by(_attempts.c.created)).mappings()
            return [Attempt(**row) for row in rows]

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()


def _sqlite_settings(connection: Any, _: object) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")  # an intent must outlive a power cut
    cursor.close()


def filesystem_of(path: Path) -> str:
    """Type of the filesystem that holds a path, as mounted (proc(5), mounts)."""
    best, kind = "", "unknown"
    target = str(path.resolve())
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, mount, fstype, *_ = line.split(" ")
        mount = mount.replace("\\040", " ")
        inside = target == mount or target.startswith(mount.rstrip("/") + "/")
        if inside and len(mount) >= len(best):
            best, kind = mount, fstype
    return kind
