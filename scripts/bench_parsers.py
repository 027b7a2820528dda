"""Parsers of program definitions beside plain readers of Python: documents of 10 MB, CPU time.

A plain reader gives what its library makes of the file; a parser also converts numbers, refuses
what it must not read, and makes NaN null. Every row is the median of five rounds, side by side in
each round, each time in a process of its own. Run by `scripts/bench parsers`.
"""

from __future__ import annotations

import argparse
import configparser
import csv
import json
import os
import random
import re
import statistics
import tempfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from zwrap.program.parsers.table import parse

ROUNDS = 5
SIZE = 10_000_000
"""Size of each document, in bytes."""

SPOTS = r"Found (?P<spots>\d+) strong pixels on image (?P<image>\d+)"
_rare = re.compile(r"^Space group: (?P<group>.+)")
_spots = re.compile(SPOTS)


def lines(make: Callable[[random.Random], str]) -> str:
    """Return texts that a function makes, as many as fit into the size of a document."""
    chance, parts, size = random.Random(19), [], 0
    while size < SIZE:
        parts.append(make(chance))
        size += len(parts[-1])
    return "".join(parts)


def numbers(chance: random.Random, count: int = 5) -> Iterator[str]:
    """Yield whole numbers and, at the end, one with a decimal, as tables of reflections have."""
    yield from (str(chance.randrange(100)) for _ in range(count - 1))
    yield f"{chance.random() * 9:.1f}"


def cell(name: str, text: str) -> str:
    return f"<{name}>{text}</{name}>"


def documents(directory: Path) -> None:
    """Write the documents."""

    def of_objects(chance: random.Random) -> str:
        return json.dumps(dict(zip("hklmi", map(float, numbers(chance)), strict=True))) + ","

    def of_elements(chance: random.Random) -> str:
        return cell("p", "".join(map(cell, "hki", numbers(chance, 3))))

    def of_log(chance: random.Random) -> str:
        spots, image = chance.randrange(9999), chance.randrange(3600)
        return f"Found {spots} strong pixels on image {image}, to {chance.random():.2f} A\n"

    def of_sections(chance: random.Random) -> str:
        name = chance.randrange(10**6)
        return "[s{}]\na = {}\nb = {}\n".format(name, *numbers(chance, 2))

    texts = {
        "objects.json": f"[{lines(of_objects)}{{}}]",
        "lists.json": "[" + lines(lambda chance: f"[{','.join(numbers(chance))}],") + "[]]",
        "rows.csv": "h,k,l,m,i\n" + lines(lambda chance: ",".join(numbers(chance)) + "\n"),
        "elements.xml": cell("r", lines(of_elements)),
        "table.txt": "h k l m i\n" + lines(lambda chance: " ".join(numbers(chance)) + "\n"),
        "sections.ini": lines(of_sections),
        "run.log": lines(of_log) + "Space group: P 21\n",
    }
    for name, text in texts.items():
        (directory / name).write_text(text)


def of_lines(pattern: re.Pattern[str], file: Path) -> list[dict[str, str | Any]]:
    """Return the groups of the lines in which a pattern is found."""
    with file.open() as opened:
        return [found.groupdict() for line in opened if (found := pattern.search(line))]


def of_words(file: Path) -> list[list[str]]:
    with file.open() as opened:
        return [line.split() for line in opened]


def of_json(file: Path) -> object:
    with file.open() as opened:
        return json.load(opened)


def of_csv(file: Path) -> list[list[str]]:
    with file.open(newline="") as opened:
        return list(csv.reader(opened))


def of_dicts(file: Path) -> list[dict[str | Any, str | Any]]:
    with file.open(newline="") as opened:
        return list(csv.DictReader(opened))


def of_ini(file: Path) -> configparser.ConfigParser:
    found = configparser.ConfigParser(strict=False)
    found.read(file)
    return found


CONTESTS: list[tuple[str, str, dict[str, Any], str, Callable[[Path], Any]]] = [
    ("json", "objects.json", {}, "json.load", of_json),
    ("json", "lists.json", {}, "json.load", of_json),
    ("csv", "rows.csv", {}, "csv.reader", of_csv),
    ("csv", "rows.csv", {}, "csv.DictReader", of_dicts),
    ("xml", "elements.xml", {}, "ElementTree.parse", ET.parse),
    ("table", "table.txt", {"header": "^h k l"}, "split of each line", of_words),
    ("ini", "sections.ini", {}, "configparser", of_ini),
    ("regex", "run.log", {"pattern": _rare.pattern}, "re over lines", lambda f: of_lines(_rare, f)),
    ("regex", "run.log", {"pattern": SPOTS, "all": True}, "re over lines",
     lambda f: of_lines(_spots, f)),
]  # fmt: skip
"""Parser, document, options, and the name of a plain reader with its function."""


def cpu_s(work: Callable[[], object]) -> float:
    """Return the CPU time of a function in a process of its own, in seconds."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        began = time.process_time()
        work()
        os.write(writing, f"{time.process_time() - began}".encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as told:
        taken = float(told.read())
    os.waitpid(child, 0)
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        documents(Path(directory))
        print("| parser | document | CPU | plain reader | its CPU | parser's time is |")
        print("|---|---|---|---|---|---|")
        for name, document, given, reader, read in CONTESTS:
            file = Path(directory, document)
            ours, plain = [], []
            for _ in range(options.rounds):
                ours.append(cpu_s(partial(parse, name, file, given)))
                plain.append(cpu_s(partial(read, file)))
            own, other = statistics.median(ours), statistics.median(plain)
            all_ = ", all matches" if given.get("all") else ""
            print(f"| `{name}`{all_} | {document} | {own:.2f} s | {reader} | {other:.2f} s | "
                  f"{own / other:.2f}x |", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
