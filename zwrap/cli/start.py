"""Start of `zocalo.wrap` and `zocalo.service`, which load quickly.

What `zocalo.wrap` imports is zwrap's own, whatever PYTHONPATH says.
"""

from __future__ import annotations

import gc
import os
import sys


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
