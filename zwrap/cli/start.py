"""Start of `zwrap`, `zocalo.wrap` and `zocalo.service`, which load quickly.

What `zocalo.wrap` imports is zwrap's own, whatever PYTHONPATH says. Every command is there by way
of `zwrap`, too: python-zocalo has commands of the same names, and one environment may hold both.
"""

from __future__ import annotations

import gc
import os
import sys

WRAP = "zocalo.wrap"
"""Name of the command that runs a step; it must not load what PYTHONPATH offers."""


def main(arguments: list[str] | None = None) -> int:
    """Run `zwrap`, or another command; return its exit status.

    That is the one by whose name the program was called, as a link, or which the first argument
    names: `zwrap zocalo.go`.
    """
    given = sys.argv[1:] if arguments is None else arguments
    called = os.path.basename(sys.argv[0])  # pathlib is not used, as below
    if WRAP in (called, *given[:1]):
        return wrap(given if called == WRAP else given[1:])
    from zwrap.plugins.registry import OWN, PROGRAMS, find

    names = {*OWN[PROGRAMS]} - {"zwrap"}
    if called not in names and not names.intersection(given[:1]):
        gc.disable()  # until `zwrap` has loaded the command
        from zwrap.cli import zwrap

        return zwrap.main(given)
    name = called if called in names else given[0]
    status: int = find(PROGRAMS, name)(given if name == called else given[1:])
    return status


def wrap(arguments: list[str] | None = None) -> int:
    """Load `zocalo.wrap` and run it; return its exit status."""
    forget_pythonpath()
    gc.disable()
    from zwrap.cli.wrap import main

    _keep()
    return main(arguments)


def service(arguments: list[str] | None = None) -> int:
    """Load `zocalo.service` and run it; return its exit status."""
    gc.disable()
    from zwrap.cli.service import main

    _keep()
    return main(arguments)


def _keep() -> None:
    """Look for garbage again, but not among what is loaded: that takes a twentieth of the start."""
    gc.freeze()
    gc.enable()


def forget_pythonpath() -> None:
    """Take the directories in PYTHONPATH from the search path, but not the one that holds zwrap.

    Old batch scripts load a program's environment modules before this command. PYTHONPATH is then
    meant for the program, which still gets it; it must not decide what this process imports.
    """
    given = os.environ.get("PYTHONPATH")
    if given:  # pathlib is not used: a program may bring one of its own
        theirs = {os.path.abspath(entry) for entry in given.split(os.pathsep)}  # noqa: PTH100
        ours = os.path.abspath(f"{__file__}/../../..")  # noqa: PTH100
        sys.path[:] = [entry for entry in sys.path if entry not in theirs or entry == ours]
