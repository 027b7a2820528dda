"""Files as a careless or hostile user may leave them: kinds x names, for several tests."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

SECRET = "secret of somebody else"
"""Content of a file that nobody may be shown."""


def _link_to(target: str) -> Callable[[Path], None]:
    return lambda path: path.symlink_to(target)


def _socket(path: Path) -> None:
    here = os.open(path.parent, os.O_RDONLY)
    bound = socket.socket(socket.AF_UNIX)
    try:  # the path of a socket has 107 bytes at most (unix(7))
        bound.bind(f"/proc/self/fd/{here}/.bound")
        os.rename(path.parent / ".bound", path)
    finally:
        bound.close()
        os.close(here)


def _link_to_secret(path: Path) -> None:
    secret = path.parent / ".secret"
    secret.write_text(SECRET)
    path.symlink_to(secret)


def _full_directory(path: Path) -> None:
    path.mkdir()
    (path / "inside").write_text("x")


def _large(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)  # it takes no space


UNFIT: dict[str, Callable[[Path], None]] = {
    "fifo": os.mkfifo,
    "socket": _socket,
    "empty directory": Path.mkdir,
    "full directory": _full_directory,
    "link to a file": _link_to_secret,
    "link to /dev/zero": _link_to("/dev/zero"),
    "dangling link": _link_to("nowhere"),
    "link to itself": lambda path: path.symlink_to(path.name),
    "too large": _large,
}
"""Kind of file that is not read, to the function that makes one."""

ILL: dict[str, Callable[[Path], None]] = {
    "empty": Path.touch,
    "half-written": lambda path: path.write_bytes(b'{"headers": {}, "mess') and None,
    "not UTF-8": lambda path: path.write_bytes(b'{"message": "\xff"}') and None,
    "no message": lambda path: path.write_bytes(b"[1, 2]") and None,
    "deep": lambda path: path.write_bytes(b"[" * 100_000) and None,
}
"""Kind of file whose content is no message of a spool, to the function that makes one."""

NAMES = [
    os.fsdecode(name)
    for name in (
        b"1",
        b"0000_\xe9.json",
        b"\xff\xfe",
        b"x" * 255,
        "é".encode() * 127,
        b"\xff" * 250,
        b"y" * 249 + b".zwrap",
        b"new\nline",
        b"\x1b[31mred",
        b"job~a7",
        b"job~n99999999999999",
        b"job~e1",
        b"job~zwrap~a3",
        b"0.zwrap~a7",
        b"0.zwrap~r",
        b"x.reason",
        b"x.reason.reason",
        b"-rf",
        b"~",
        b"0" * 19 + b"-host-1-1.zwrap",
        b"q" * 240 + b".reason",
    )
]
"""Names of files, with surrogate escapes."""
