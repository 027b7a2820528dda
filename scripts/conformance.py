"""Compare zwrap with python-zocalo and python-workflows (see scripts/conformance)."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from conformances import FACILITY, examples, upstream
from conformances.run import chains


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/conformance")
    parser.add_argument("--upstream", type=Path, action="append", default=[], metavar="DIR")
    parser.add_argument("--keep", type=Path, metavar="DIR")
    parser.add_argument("--no-chains", action="store_true")
    parser.add_argument("tests", nargs="*", metavar="TEST")
    options = parser.parse_args()
    keep = options.keep.resolve() if options.keep else None
    bad: list[object] = []
    if not options.tests or any(not each.startswith("chains") for each in options.tests):
        bad += upstream.tests(options.upstream, keep, options.tests)
    if not options.tests:
        bad += [examples.__name__] if examples.compared(keep) else []
    if not options.no_chains:
        bad += chains(upstream.changed(FACILITY.read_text()), options.tests)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
