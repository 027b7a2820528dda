"""Rules of the CPU time and memory of a program: what has ended counts, and nobody else's.

Each runs in a process of its own, which adopts what its program leaves.
"""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

SETUP = """
import json, os, shlex, sys
from pathlib import Path
from zwrap.wrapper import usage
from zwrap.wrapper.process import Program
from zwrap.wrapper.usage import Usage

here = Path.cwd()
os.mkfifo("ready")
code = "import time\\nwhile time.process_time() < 0.5: pass"
burn = shlex.join([sys.executable, "-P", "-c", code])

def start(text):
    return Program.start(["/bin/sh", "-c", text], directory=here, environment=os.environ,
                         stdout=here / "out", stderr=here / "err")

def when_ready():
    return Path("ready").read_text()  # until the program has opened, written and closed it
"""


def run(directory: Path, text: str) -> Any:
    code = SETUP + textwrap.dedent(text)
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=directory, capture_output=True, text=True,
        timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_time_of_children_that_have_ended_counts(tmp_path: Path) -> None:
    """A tree of short programs, as xia2 is one, is not idle between two of them."""
    cpu_s, later_s, peak_mib, memory_mib = run(
        tmp_path,
        """
        used = Usage()
        program = start(f"{burn}; echo >ready; read x <ready; {burn}; echo >ready; exec sleep 60")
        when_ready()
        first = used.measure(program.pid)
        Path("ready").write_text("go\\n")
        when_ready()
        second = used.measure(program.pid)
        program.stop("SIGTERM")
        program.wait(60)
        print(json.dumps([first["cpu_s"], second["cpu_s"], used.peak_mib, second["memory_mib"]]))
        """,
    )
    assert 0.4 <= cpu_s < 10
    assert later_s >= 0.8
    assert round(peak_mib, 1) >= memory_mib > 0


def test_what_the_wrapper_adopted_counts_and_its_guard_does_not(tmp_path: Path) -> None:
    """A process whose parent has ended is a child of the wrapper, whether it lives or not."""
    family, guard, cpu_s = run(
        tmp_path,
        """
        used = Usage()
        program = start(f"(({burn}; echo $$ >ready) &); exec sleep 60")
        when_ready()
        family = [process.pid for process in usage._family(program.pid)]
        measured = used.measure(program.pid)
        guard = os.getpgid(program.pid)
        program.stop("SIGTERM")
        program.wait(60)
        print(json.dumps([family, guard, measured["cpu_s"]]))
        """,
    )
    assert guard not in family
    assert cpu_s >= 0.4


def test_the_time_goes_on_with_the_next_program(tmp_path: Path) -> None:
    first_s, second_s = run(
        tmp_path,
        """
        used, found = Usage(), []
        for _ in range(2):
            program = start(f"{burn}; echo >ready; exec sleep 60")
            when_ready()
            found.append(used.measure(program.pid)["cpu_s"])
            program.stop("SIGTERM")
            program.wait(60)
        print(json.dumps(found))
        """,
    )
    assert first_s >= 0.4
    assert second_s >= first_s + 0.4


def test_the_time_never_falls(tmp_path: Path) -> None:
    """A process may end after its parent was looked at, and before its own turn."""
    before_s, after, own = run(
        tmp_path,
        """
        used = Usage()
        while os.times().user < 0.2:
            pass
        before = used.measure(os.getpid())
        usage._family = lambda pid: iter(())
        after = used.measure(os.getpid())
        print(json.dumps([before["cpu_s"], after, before["memory_mib"]]))
        """,
    )
    assert before_s >= 0.2
    assert after == {"cpu_s": before_s, "memory_mib": 0.0}
    assert own > 1
