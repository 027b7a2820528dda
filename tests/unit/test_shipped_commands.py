"""Command lines of shipped definitions from the job parameters of Diamond's wrapper classes."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from zwrap.program import invocation
from zwrap.program.argv import argv
from zwrap.program.plan import plan
from zwrap.program.reading import find_program


def lines(name: str, parameters: dict[str, Any]) -> list[list[str]]:
    """Return the words of each command of a program."""
    defined = find_program(name, parameters)
    assert defined
    parameters = {"working_directory": "/work", **parameters}
    known = invocation.values(defined, parameters, None, {})
    return [argv(each) for each in plan(defined, known)]


MULTIPLEX = {
    "data": ["/a.expt;/a.refl", "/b.expt;/b.refl"],
    "ispyb_parameters": {"d_min": ["2.1"], "spacegroup": ["P41212"], "sample_id": ["5"]},
}
SSX = {"xia2.ssx": {"template": "/a_#####.cbf"}, "ispyb_parameters": {"spacegroup": "P6"}}
ALIGN = {"ispyb_parameters": {"experiment_file": ["/a.expt"]}}
AUTOPROC = {
    "autoproc": {"pname": "p", "xname": "x", "nproc": 8},
    "ispyb_parameters": {"d_min": 1.5, "spacegroup": "P 6", "unit_cell": "1 2 3 90 90 90"},
    "images": "/d/a-x_0001.cbf:1:180,/d/y_master.h5:1:90",
    "macro": "DiamondI23",
}
FAST_EP = {
    "fast_ep": {"atom": "Se", "rlims": [2.5, 3.0], "xml": "fast_ep.xml"},
    "ispyb_parameters": {"data": "/a.mtz", "scaling_id": 7},
}


@pytest.mark.parametrize(
    ("name", "parameters", "words"),
    [
        (
            "xia2.multiplex",
            MULTIPLEX,
            ["xia2.multiplex", "/a.expt", "/a.refl", "/b.expt", "/b.refl",
             "output.cluster_html=True", "resolution.d_min=2.1", "symmetry.space_group=P41212"],
        ),
        ("xia2.multiplex", {"data": ["/a.expt"]}, ["xia2.multiplex", "/a.expt"]),
        (
            "xia2.multiplex_filtering",
            {"multiplex_directory": "/m", "ispyb_parameters": {"d_min": [2], "data": ["/a"]}},
            ["xia2.multiplex_filtering", "input=/m", "resolution.d_min=2"],
        ),
        ("xia2.ssx", SSX, ["xia2.ssx", "template=/a_#####.cbf", "space_group=P6"]),
        ("align_crystal_downstream", ALIGN, ["dials.align_crystal", "/a.expt"]),
        (
            "dimple",
            {"dimple": {"data": ["/a.mtz"], "pdb": ["/m.pdb", "1abc"]}},
            ["dimple", "/a.mtz", "/m.pdb", "1abc", "/work", "--anode", "-fpng"],
        ),
        (
            "fast_rdp",
            {"fast_rdp": {"fast_dp_directory": "/old"}, "ispyb_parameters": {"d_max": 30}},
            ["fast_rdp", "--atom=S", "/old", "--resolution-low=30"],
        ),
        (
            "fast_ep", FAST_EP,
            ["fast_ep", "data=/a.mtz", "atom=Se", "rlims=2.5,3.0", "xml=fast_ep.xml"],
        ),
        ("screen19", {"screen-selection": "/x_0001.cbf:1:9"}, ["screen19", "/x_0001.cbf:1:9"]),
        (
            "screen19_mx",
            {"minimum_exposure": {"mtz": "/a.mtz"}, "output_file": "o", "wilson_plot": "w.png"},
            ["screen19.minimum_exposure", "mtz=/a.mtz"],
        ),
        (
            "best",
            {"best_command": "best", "data": "/x", "best": {"detector": "p6m", "anomalous": True}},
            ["best", "-f", "p6m", "-a", "-dna", "best.xml", "-xds", "/x/CORRECT.LP",
             "/x/BKGPIX.cbf", "/x/XDS_ASCII.HKL"],
        ),
        (
            "xoalign",
            {"experiment_file": "/a.expt", "phi": 1, "kappa": 2, "omega": 3},
            ["XOalign.py", "-D", "1,2,3", "/a.expt"],
        ),
        (
            "metal_id",
            {"data": ["/below.mtz", "/above.mtz"], "pdb": ["/m.pdb"], "scaling_id": [4]},
            ["metal_id", "/above.mtz", "/below.mtz", "/m.pdb", "-o", "metal_id"],
        ),
    ],
)  # fmt: skip
def test_job_parameters_of_a_class_give_its_command_line(
    name: str, parameters: dict[str, Any], words: list[str]
) -> None:
    assert lines(name, parameters)[0] == words


def test_autoproc_gets_pairs_of_words_for_each_sweep_and_none_without_a_value() -> None:
    first, *others = lines("autoproc", AUTOPROC)
    assert first[:4] == ["process", "-M", "ReportingInlined", 'AutoProcSmallFootprint="yes"']
    assert first[first.index("-nthreads") :] == [
        "-nthreads", "8", "pname=p", "xname=x", "-M", "DiamondI23",
        "-Id", "x0ax,/d,a-x_####.cbf,1,180", "-Id", "x1y,/d,y_master.h5,1,90",
        "-R", "1000", "1.5", "symm=P 6", 'cell="1 2 3 90 90 90"',
    ]  # fmt: skip
    assert others[0] == ["dials.estimate_resolution", "aimless_alldata_unmerged.mtz", "misigma=2"]
    bare = lines("autoproc", {"master": "/x_master.h5"})[0]
    assert bare[-2:] == ["-h5", "/x_master.h5"]
    assert "-R" not in bare


def test_mrbump_reads_its_keywords_on_standard_input(tmp_path: Path) -> None:
    (tmp_path / "mrbump").write_text('#!/bin/sh\nprintf "%s\\n" "$@"; cat\n')
    (tmp_path / "mrbump").chmod(0o755)
    (tmp_path / "keywords.txt").write_text("END\n")
    parameters = {
        "ispyb_parameters": {"hklin": ["/a b.mtz"]},
        "protein_info": {"sequence": "MKV"},
        "mrbump": {"arguments": ["root", "x"]},
    }
    [words] = lines("mrbump", parameters)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    found = subprocess.run(
        words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert found.stdout.splitlines() == [
        "hklin", "/a b.mtz", "hklout", "mrbump.mtz", "xyzout", "mrbump.pdb", "root", "x",
        "seqin", "sequence.fasta", "END",
    ]  # fmt: skip


def test_fast_dp_is_followed_by_its_report_and_merging_statistics() -> None:
    _, report, statistics = lines("fast_dp", {"fast_dp": {"filename": "/x_0001.cbf"}})
    assert report == [
        "xia2.report", "log_include=/work/fast_dp.log", "prefix=fast_dp", "title=fast_dp",
        "fast_dp_unmerged.mtz",
    ]  # fmt: skip
    assert statistics[0] == "iotbx.merging_statistics"


def test_fast_dp_records_its_json() -> None:
    defined = find_program("fast_dp", {})
    assert defined
    last = defined.files[-1]
    assert (last.pattern, last.type, last.rank) == ("fast_dp.json", "log", 2)


@pytest.mark.parametrize(
    ("name", "parameters", "blamed"),
    [
        ("fast_dp", {"fast_dp": {"filename": "/x_0001.cbf"}}, ""),
        ("rlv", {"template": "/x.h5", "image_first": 1, "image_last": 2}, "command 1 of 4 (rlv)"),
    ],
)
def test_a_failure_names_its_command_where_several_have_to_succeed(
    name: str, parameters: dict[str, Any], blamed: str
) -> None:
    defined = find_program(name, parameters)
    assert defined
    first = plan(defined, invocation.values(defined, parameters, None, {}))[0]
    assert first.blamed == blamed
    assert first.label


@pytest.mark.parametrize(
    ("template", "argument"),
    [("/x_####.cbf", "template=/x_####.cbf"), ("/x.h5", "/x.h5"), ("/x y.nxs", "/x y.nxs")],
)
def test_a_template_of_images_is_told_from_a_file_with_all_of_them(
    template: str, argument: str, tmp_path: Path
) -> None:
    (tmp_path / "dials.import").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    (tmp_path / "dials.import").chmod(0o755)
    words = lines("rlv", {"template": template, "image_first": 1, "image_last": 9})[0]
    found = subprocess.run(
        words, env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, capture_output=True, text=True, check=True
    )
    assert found.stdout.splitlines() == ["image_range=1,9", argument]
