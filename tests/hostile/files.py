"""Bad files in a spool: what any process that may write there can put beside good messages."""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

_serial = itertools.count()


def _write(path: bytes, content: bytes) -> None:
    with open(path, "wb") as file:  # noqa: PTH123 - names need not be UTF-8
        file.write(content)


def _named(name: bytes, content: bytes = b'{"kind": "from a file"}') -> Callable[[Path], None]:
    def put(queue: Path) -> None:
        full = name.replace(b"@", b"%06d" % next(_serial))
        _write(os.fsencode(queue) + b"/incoming/" + full, content)

    return put


def _placed(make: Callable[[str], None], where: str = "incoming") -> Callable[[Path], None]:
    def put(queue: Path) -> None:
        place = queue / where
        place.mkdir(parents=True, exist_ok=True)
        make(str(place / f"0-hostile-{next(_serial)}"))

    return put


def _old_directory(path: str) -> None:
    os.mkdir(path)
    os.utime(path, (time.time() - 7200,) * 2)


def _full_directory(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):  # it was put aside already
        os.makedirs(f"{path}/a/b")
        _write(os.fsencode(path) + b"/x", b"{}")


def _large(path: str) -> None:
    with open(path, "wb") as file:  # noqa: PTH123  (it may be put aside meanwhile)
        file.truncate(3 << 30)  # takes no space


def _socket(path: str) -> None:
    here = os.open(Path(path).parent, os.O_PATH)  # the path of a socket is short
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(f"/proc/self/fd/{here}/{Path(path).name}")
    os.close(here)


def _with_a_fifo_as_reason(queue: Path) -> None:
    """Make a dead letter whose reason is a FIFO."""
    _write(os.fsencode(queue) + b"/errors/r", b"{}")
    if not os.path.lexists(queue / "errors/r.reason"):
        os.mkfifo(queue / "errors/r.reason")


def _of_dead_owner(queue: Path) -> None:
    owner = queue / "pending" / f"gone-1-1-{next(_serial)}"
    owner.mkdir()
    _write(os.fsencode(owner) + b"/0" + b"p" * 254, b'{"kind": "long name"}')
    os.mkfifo(owner / "0-fifo")
    for path in (owner, *owner.iterdir()):
        os.utime(path, (time.time() - 7200,) * 2)


KINDS: dict[str, Callable[[Path], None]] = {
    "name that is not UTF-8": _named(b"0-@-\xff\xe9.json"),
    "name of 255 bytes": _named(b"0-@-".ljust(250, b"n")),
    "name with a newline": _named(b"0-@-a\n\x1b[31mb"),
    "name with an attempt": _named(b"0-job@~a7"),
    "name with a huge attempt": _named(b"0-job@~a" + b"9" * 200),
    "name with a huge time": _named(b"0-job@~e" + b"9" * 200),
    "name of a reason": _named(b"0-@-x.reason"),
    "hidden name": _named(b".hidden-@"),
    "own suffix, not a message": _named(b"0-@.zwrap", b"[]"),
    "own suffix, headers a list": _named(b"0-@.zwrap", b'{"headers": [], "message": 1}'),
    "empty": _named(b"0-@-empty", b""),
    "cut off": _named(b"0-@-cut", b'{"kind": "cu'),
    "binary": _named(b"0-@-binary", bytes(range(256))),
    "deep": _named(b"0-@-deep", b"[" * 100_000),
    "FIFO": _placed(os.mkfifo),
    "socket": _placed(_socket),
    "directory": _placed(_full_directory),
    "link to /dev/zero": _placed(lambda path: Path(path).symlink_to("/dev/zero")),
    "link to /dev/null": _placed(lambda path: Path(path).symlink_to("/dev/null")),
    "link to a file": _placed(lambda path: Path(path).symlink_to("/etc/passwd")),
    "link to nowhere": _placed(lambda path: Path(path).symlink_to("nowhere")),
    "link to itself": _placed(lambda path: Path(path).symlink_to(path)),
    "file of 3 GiB": _placed(_large),
    "old directory in tmp": _placed(_old_directory, "tmp"),
    "FIFO in tmp": _placed(os.mkfifo, "tmp"),
    "FIFO as an owner": _placed(os.mkfifo, "pending"),
    "files of a dead owner": _of_dead_owner,
    "FIFO as a dead letter": _placed(os.mkfifo, "errors"),
    "directory as a dead letter": _placed(_full_directory, "errors"),
    "link to /dev/zero as a dead letter": _placed(
        lambda path: Path(path).symlink_to("/dev/zero"), "errors"
    ),
    "FIFO as a reason": _with_a_fifo_as_reason,
    "FIFO in a topic": lambda queue: _placed(os.mkfifo, "command")(queue.parent / ".topics"),
    "/dev/zero in a topic": lambda queue: _placed(
        lambda path: Path(path).symlink_to("/dev/zero"), "command"
    )(queue.parent / ".topics"),
    "garbage in a topic": lambda queue: _placed(
        lambda path: _write(os.fsencode(path), b"\xff" * 10), "command"
    )(queue.parent / ".topics"),
    "endless number in a topic": lambda queue: _placed(
        lambda path: _write(os.fsencode(path), b"9" * 10_000 + b"\n{}"), "command"
    )(queue.parent / ".topics"),
    "FIFO as a queue": lambda queue: _placed(os.mkfifo, ".")(queue.parent),
    "queue that is not UTF-8": lambda queue: os.makedirs(
        os.fsencode(queue.parent) + b"/q\xff%d/incoming" % next(_serial)
    ),
}
"""Kind to the function that makes one in the directory of a queue."""
