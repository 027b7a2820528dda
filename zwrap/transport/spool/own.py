"""A queue that nobody shares with its user, such as the outbox of an attempt."""

from __future__ import annotations

from zwrap.transport.spool.queue import SpoolQueue


class OwnQueue(SpoolQueue):
    """A queue whose directories are for those who may use the directory above them."""

    is_shared = False
