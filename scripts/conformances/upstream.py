"""Run the tests of python-zocalo and python-workflows against zwrap (see scripts/conformance)."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RECORDS = ROOT / "tests" / "data" / "upstream"
WORKFLOWS_NAMES = ROOT / "tests" / "unit" / "recorded" / "workflows-3.5-names.json"
"""Public names of python-workflows, by module and class."""
LIMIT_S = 1200
"""Time for all tests of one library, in seconds."""
HOLDS = "holds"
"""What the recorded table has of a test that holds."""
HOLD, EXPLAINED = "hold", "do not hold, for a listed reason"
BROKEN, UNLISTED = "DO NOT HOLD and are listed as those that do", "ARE NOT LISTED"
"""Kinds of results."""

# The rule of docs/compat-zocalo.md. Of strings only those are changed that `mock.patch` imports.
NAMES = r"(?:zocalo|workflows)\b[\w.]*"
RULES = (
    (rf"^(\s*)from ({NAMES}) import", r"\1from zwrap.compat.\2 import"),
    (rf"^(\s*)import ({NAMES}) as ", r"\1import zwrap.compat.\2 as "),
    (
        r"^(\s*)import ((zocalo|workflows)\b[\w.]*)\s*$",
        r"\1import zwrap.compat.\2; from zwrap.compat import \3",
    ),
    (rf"(patch\(\s*[\"'])({NAMES})", r"\1zwrap.compat.\2"),
)


def is_there(library: str) -> bool:
    """Tell whether zwrap has the modules of a library."""
    return importlib.util.find_spec(f"zwrap.compat.{library}") is not None


def changed(text: str) -> str:
    """Return a test file with its imports changed, as far as zwrap has what they import."""
    absent = [each for each in ("zocalo", "workflows") if not is_there(each)]
    return "\n".join(_line(line, absent) for line in text.split("\n"))


def _line(line: str, absent: list[str]) -> str:
    """Return a line with its import changed, unless zwrap lacks what it imports."""
    for found, becomes in RULES:
        new = re.sub(found, becomes, line)
        if new != line:
            return line if any(f"zwrap.compat.{each}" in new for each in absent) else new
    return line


def library_of(source: Path) -> str:
    """Return which library a source tree holds."""
    for library in ("zocalo", "workflows"):
        if (source / "src" / library).is_dir() and (source / "tests").is_dir():
            return library
    sys.exit(f"conformance: {source} holds neither python-zocalo nor python-workflows with tests.")


def fetched(place: Path) -> Path:
    """Return the source of the installed python-zocalo, from PyPI."""
    version = metadata.version("zocalo")
    source = place / f"zocalo-{version}"
    if not source.is_dir():
        place.mkdir(exist_ok=True)
        subprocess.run(
            [sys.executable, "-P", "-m", "pip", "download", "-q", "--disable-pip-version-check",
             "--no-deps", "--no-binary", "zocalo", "-d", str(place), f"zocalo=={version}"],
            check=True,
        )  # fmt: skip
        with tarfile.open(place / f"zocalo-{version}.tar.gz") as archive:
            archive.extractall(place, filter="data")
    return source


def public_names(source: Path, library: str) -> Iterator[str]:
    """Yield the public names of a library: modules, names in them, members of classes."""
    root = source / "src" / library
    for file in sorted(root.rglob("*.py")):
        parts = file.relative_to(root.parent).with_suffix("").parts
        module = ".".join(parts).removesuffix(".__init__")
        if "._" not in module:
            yield module
            for node in ast.parse(file.read_text()).body:
                yield from (f"{module}.{name}" for name in defined(node))


def defined(node: ast.stmt) -> Iterator[str]:
    """Yield the public names that a statement defines."""
    names: list[str] = []
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            names = [node.name]
        case ast.Assign():
            names = [target.id for target in node.targets if isinstance(target, ast.Name)]
        case ast.AnnAssign(target=ast.Name(id=name)):
            names = [name]
    for name in names:
        if not name.startswith("_"):
            yield name
            if isinstance(node, ast.ClassDef):
                for member in node.body:
                    yield from (f"{name}.{each}" for each in defined(member))


def known_names(library: str) -> tuple[set[str], re.Pattern[str]]:
    """Return the public names in the record of a library, and a pattern of those that do not count.

    Those are loggers, packages without names of their own, and members of classes of which the
    record has the name only.
    """
    if library == "zocalo":
        known = set((RECORDS / "zocalo-names.txt").read_text().split("\n"))
        return known, re.compile(r"zocalo\.util\.slurm\.models\.\w+\.")
    recorded = json.loads(WORKFLOWS_NAMES.read_text())
    places = {place.replace(":", "."): names.split() for place, names in recorded.items()}
    named = [f"{place}.{name}" for place, names in places.items() for name in names]
    whole = "|".join(re.escape(name) for name in named if name not in places)
    exempt = rf"(?:{whole})\.|.*\.logger$|workflows\.(contrib|util\.zocalo)$"
    return {*places, *named}, re.compile(exempt)


def unknown_names(source: Path, library: str) -> list[str]:
    """Return the public names that the record lacks."""
    known, exempt = known_names(library)
    names = dict.fromkeys(public_names(source, library))
    return [name for name in names if name not in known and not exempt.match(name)]


def recorded() -> dict[str, str]:
    """Return what the table has of each test: `HOLDS`, or the reason why it does not hold."""
    found, verdict = {}, ""
    for line in (RECORDS / "conformance.txt").read_text().split("\n"):
        if line.startswith("== "):
            verdict = line[3:]
        elif line and not line.startswith("#"):
            found[line] = verdict
    return found


def functions(file: Path) -> list[str]:
    """Return the names of the tests in a file, read without importing it."""
    body = ast.parse(file.read_text()).body
    inner = [each for node in body if isinstance(node, ast.ClassDef) for each in node.body]
    return [
        node.name
        for node in [*body, *inner]
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test")
    ]


def without_result(tests: Path, library: str, found: dict[str, str]) -> list[str]:
    """Return the tests of which a run says neither that they hold nor that they do not."""
    told = {(name.partition("::")[0], bare(name)) for name in found}
    return [
        f"{file}::{test}"
        for path in sorted([*tests.rglob("test_*.py"), *tests.rglob("test.py")])
        for file in [f"{library}/{path.relative_to(tests)}"]
        for test in functions(path)
        if (file, test) not in told
    ]


def bare(name: str) -> str:
    """Return the function of a test, without its file, class and parameters."""
    return name.partition("[")[0].rpartition("::")[2]


def outcomes(source: Path, library: str, place: Path, chosen: list[str]) -> dict[str, str]:
    """Run the tests of a library; its tests to the fault of each, empty for one that holds."""
    tests = place / f"upstream_{library}"
    for file in sorted((source / "tests").rglob("*.py")):
        target = tests / file.relative_to(source / "tests")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(changed(file.read_text()))
    shutil.copy(Path(__file__).with_name("fixtures.py"), place / "conftest.py")
    (place / "pytest.ini").write_text("[pytest]\n")
    results = place / f"{library}.jsonl"
    results.unlink(missing_ok=True)
    programs = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith(("ZOCALO", "ZWRAP"))},
        "PATH": programs, "HOME": str(place), "CONFORMANCE_RESULTS": str(results),
        "ZWRAP_STATE": str(place / "state"), "ZWRAP_SPOOL": str(place / "spool"),
    }  # fmt: skip
    # Modules have the names that they have upstream, which some tests look at; so files of one name
    # are run in a way of their own.
    for mode, files in (("prepend", "test_*.py"), ("importlib", "test.py")):
        command = [sys.executable, "-P", "-m", "pytest", "-q", f"--import-mode={mode}", "-p",
                   "no:cacheprovider", "--continue-on-collection-errors", "-o",
                   f"python_files={files}", str(tests)]  # fmt: skip
        done = subprocess.run(
            command, cwd=place, env=environment, capture_output=True, text=True, timeout=LIMIT_S,
            check=False,
        )  # fmt: skip
        if done.returncode not in (0, 1, 5):  # 5: there is no such file
            said = f"{done.stdout}{done.stderr}"
            sys.exit(f"conformance: pytest ended with status {done.returncode}:\n{said}")
    found: dict[str, str] = {}
    for line in results.read_text().splitlines():
        name, fault = json.loads(line)
        name = name.replace(f"upstream_{library}", library, 1)
        if "::" in name:
            found[name] = found.get(name) or fault
        else:
            file = tests / name.partition("/")[2]
            found |= {f"{name}::{test}": fault for test in functions(file)}
    if missing := without_result(tests, library, found):
        sys.exit(f"conformance: the run has no result of {', '.join(missing)}")
    return {
        name: fault for name, fault in found.items() if not chosen or any(c in name for c in chosen)
    }


def judged(fault: str, known: str | None) -> tuple[str, str]:
    """Return which kind of result that of a test is, and a line on it.

    Args:
        fault: What went wrong; empty: the test holds.
        known: What the recorded table has of the test; None: it is not there.
    """
    if known is None:
        return UNLISTED, f"IS NOT LISTED, and {'does not hold: ' + fault if fault else HOLDS}"
    if not fault:
        return HOLD, HOLDS if known == HOLDS else f"{HOLDS}, and is listed as one that does not"
    if known == HOLDS:
        return BROKEN, f"DOES NOT HOLD, and is listed as one that does: {fault}"
    return EXPLAINED, f"does not: {known}"


def report(found: dict[str, str]) -> list[str]:
    """Print the table; return the tests that are not in the recorded one, or hold only there."""
    table = recorded()
    results = {name: judged(fault, table.get(name)) for name, fault in found.items()}
    for name, (_, line) in results.items():
        print(f"{name}  {line}")
    counts = Counter(kind for kind, _ in results.values())
    print(f"{len(found)} tests: " + ", ".join(f"{counts[kind]} {kind}" for kind in counts))
    return [name for name, (kind, _) in results.items() if kind in (UNLISTED, BROKEN)]


def gone(found: dict[str, str], library: str) -> list[str]:
    """Return the tests of a library that are in the recorded table, and of which nothing came."""
    return [name for name in recorded() if name.startswith(f"{library}/") and name not in found]


def tests(upstream: Sequence[Path], keep: Path | None, chosen: list[str]) -> list[str]:
    """Run upstream's tests; return those that differ from the record, and names that it lacks.

    Args:
        upstream: Checkouts.
        keep: Directory where the changed tests stay; None: they do not.
        chosen: Parts of the names of the tests to run; empty: all are run.
    """
    sources = {library_of(directory): directory for directory in upstream}
    if "zocalo" not in sources:
        sources["zocalo"] = fetched(ROOT / ".venv-conformance" / "upstream")
    bad = []
    with tempfile.TemporaryDirectory() as scratch:
        place = keep or Path(scratch)
        for library, source in sorted(sources.items()):
            unknown = unknown_names(source, library)
            for name in unknown:
                print(
                    f"{name} is a public name of {library} that {library}-names.txt does not have"
                )
            bad += unknown
            if is_there(library):
                found = outcomes(source, library, place, chosen)
                bad += report(found)
                for name in [] if chosen else gone(found, library):
                    print(f"{name} is listed, and is gone")
            else:
                print(f"zwrap.compat.{library} is not there: the tests of {library} are left out")
    return bad
