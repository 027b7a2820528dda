"""Command lines of real programs, in the form in which each of them takes its options."""

from __future__ import annotations

from typing import Any

import pytest

from zwrap.program import invocation
from zwrap.program.argv import argv
from zwrap.program.plan import Planned, plan
from zwrap.program.reading import parse_definition

AUTOPROC: dict[str, Any] = {
    "directory": "autoPROC",
    "command": [
        "process", "-xml", "-nthreads", "{nproc}", ["pname={pname}"], ["-M", "{macros}"],
        ["-Id", "{sweeps}"], {"if": "anomalous", "then": "-ANO"},
        {"unless": "anomalous", "then": ["-M", "{native}"]},
    ],
    "inputs": {
        "nproc": {"default": 4}, "pname": {}, "macros": {}, "sweeps": {"required": True},
        "anomalous": {}, "native": {},
    },
    "options": [
        {"block": "ispyb_parameters", "names": {"spacegroup": "symm"}, "only_named": True},
    ],
}  # fmt: skip

AIMLESS: dict[str, Any] = {
    "command": ["aimless", "HKLIN", "{hklin}", ["HKLREF", "{reference}"], "XMLOUT", "aimless.xml"],
    "stdin": "resolution high {d_min}\nanomalous {anomalous}\nexclude batch {batches}\nend\n",
    "inputs": {
        "hklin": {"required": True}, "reference": {}, "d_min": {}, "anomalous": {"default": "on"},
        "batches": {},
    },
}  # fmt: skip

PAPERMILL: dict[str, Any] = {
    "command": ["papermill", "{notebook}", "out.ipynb", ["--kernel", "{kernel}"]],
    "inputs": {"notebook": {"required": True}, "kernel": {}},
    "options": [{"block": "values", "format": ["-p", "{name}", "{value}"]}],
}

BLASTP: dict[str, Any] = {
    "command": ["blastp", "-query", "{query}", "-outfmt", "15", ["-evalue", "{evalue}"]],
    "inputs": {"query": {"required": True}, "evalue": {}},
    "stdout": "hits.json",
    "options": [{"block": "blastp", "format": ["-{name}", "{value}"], "flag": "-{name}"}],
}

CHAIN: dict[str, Any] = {
    "command": ["dials.import", "{images}"],
    "set_up": ["module load dials/{version}"],
    "inputs": {"images": {"required": True}, "nproc": {"default": 1}, "version": {}, "scale": {}},
    "success": {"files": ["imported.expt"]},
    "then": [
        {
            "command": ["dials.find_spots", "imported.expt", "nproc={nproc}"],
            "success": {"files": ["strong.refl"]},
            "progress": {"pattern": r"Found (\d+) strong pixels on image (\d+)"},
        },
        {"command": ["dials.index", "imported.expt", "strong.refl"]},
        {"command": ["dials.integrate", "indexed.expt", "indexed.refl", "nproc={nproc}"]},
        {"command": "dials.scale integrated.* | tee scale.txt", "name": "scale", "if": "scale"},
    ],
}


def planned(given: dict[str, Any], **parameters: Any) -> list[Planned]:
    defined = parse_definition(given, "test.yaml", "prog")
    return plan(defined, invocation.values(defined, parameters, None, {}))


@pytest.mark.parametrize(
    ("given", "parameters", "expected"),
    [
        (
            AUTOPROC,
            {"sweeps": ["a,/d,a_#.cbf,1,9", "b,/d,b_#.cbf,1,9"], "native": "LowRes"},
            "process -xml -nthreads 4 -Id a,/d,a_#.cbf,1,9 -Id b,/d,b_#.cbf,1,9 -M LowRes",
        ),
        (
            AUTOPROC,
            {
                "sweeps": ["a,/d,a_#.cbf,1,9"], "macros": ["ReportingInlined", "HighRes"],
                "anomalous": True, "native": "LowRes", "pname": "p",
                "ispyb_parameters": {"spacegroup": "P212121", "d_min": 2},
            },
            ("process -xml -nthreads 4 pname=p -M ReportingInlined -M HighRes "
            "-Id a,/d,a_#.cbf,1,9 -ANO symm=P212121"),
        ),
        (AIMLESS, {"hklin": "in.mtz"}, "aimless HKLIN in.mtz XMLOUT aimless.xml"),
        (
            PAPERMILL,
            {"notebook": "n.ipynb", "values": {"n": 5, "names": ["a", "b"], "none": None}},
            "papermill n.ipynb out.ipynb -p n 5 -p names a -p names b",
        ),
        (
            BLASTP,
            {"query": "q.fasta", "blastp": {"remote": True, "ungapped": False, "num_threads": 2}},
            "blastp -query q.fasta -outfmt 15 -remote -num_threads 2",
        ),
    ],
)  # fmt: skip
def test_a_program_gets_its_options_as_it_takes_them(
    given: dict[str, Any], parameters: dict[str, Any], expected: str
) -> None:
    [first] = planned(given, **parameters)
    assert argv(first) == expected.split(" ")


def test_keywords_on_standard_input_are_those_that_have_values() -> None:
    [first] = planned(AIMLESS, hklin="in.mtz", batches=["1 to 5", "9 to 12"])
    assert first.values.lines(first.command.stdin or "") == (
        "anomalous on\nexclude batch 1 to 5\nexclude batch 9 to 12\nend\n"
    )


def test_a_chain_of_programs_has_rules_and_progress_of_its_own_for_each() -> None:
    *first, last = planned(CHAIN, images=["a 1.cbf", "a 2.cbf"], version="3", scale=True)
    assert [each.command.name for each in first] == [
        "prog", "dials.find_spots", "dials.index", "dials.integrate",
    ]  # fmt: skip
    shell, option, text = argv(first[1])
    assert (shell, option) == ("/bin/bash", "-c")
    assert text.endswith("module load dials/3\nexec dials.find_spots imported.expt nproc=1")
    assert argv(last)[-1].endswith("module load dials/3\ndials.scale integrated.* | tee scale.txt")
    assert first[1].command.progress
    assert not first[2].command.progress
    assert [each.stdout for each in first[:2]] == ["prog.log", "dials.find_spots.log"]
    assert len(planned(CHAIN, images=["a"], version="3")) == 4
