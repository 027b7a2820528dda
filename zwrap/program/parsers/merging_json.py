"""Merging statistics per resolution shell in JSON of cctbx, as DIALS, xia2 and its kin write it."""

from __future__ import annotations

import math
from pathlib import Path

from zwrap.errors import ProgramError, short
from zwrap.program.ispyb import SHELLS
from zwrap.program.parsers.document import Place, read_document
from zwrap.program.parsers.generic import Options, at_key

_NAMES = {
    "n_obs": "n_tot_obs",
    "n_uniq": "n_tot_unique_obs",
    "multiplicity": "multiplicity",
    "completeness": "completeness",
    "i_over_sigma_mean": "mean_i_sig_i",
    "r_merge": "r_merge",
    "r_meas": "r_meas_all_iplusi_minus",
    "r_pim": "r_pim_all_iplusi_minus",
    "cc_one_half": "cc_half",
    "cc_anom": "cc_anom",
    "anom_completeness": "anom_completeness",
}
"""Name of a statistic to its name in ISPyB."""

LARGEST = 1e9
"""Bound of 1/d², in 1/Å²; a larger one is no resolution."""


def merging_statistics(path: Path, options: Options) -> object:
    """Return the statistics by shell and ISPyB name; the first shell is the inner one.

    Option `key` leads to the object with the statistics. With option `below` it leads to an object
    of data sets, and `below` from each of them to its statistics: the result is a list, in which
    each entry has the `name` of the data set, too. Statistics that are null are left out.
    """
    document = read_document(path)
    key = str(options.get("key") or "")
    top = Place(path, at_key(document.value, options, path), f"/{key}" if key else "")
    below = options.get("below")
    if not below:
        return _by_shell(top)
    found = {
        name: Place(path, at_key(each.value, {"key": below}, path), f"{each.route}/{below}")
        for name, each in top.items()
    }
    return [{"name": name, **_by_shell(place)} for name, place in found.items()]


def _by_shell(top: Place) -> dict[str, object]:
    """Return the statistics of one data set by shell and ISPyB name."""
    shells = (top["overall"], *(_shell(top, index) for index in (0, -1)))
    return dict(zip(SHELLS, map(_statistics, shells), strict=True))


def _shell(top: Place, index: int) -> Place:
    """Return the statistics of one shell, which are spread over lists."""
    lists = {
        name: values[index].value for name, values in top.items() if isinstance(values.value, list)
    }
    return Place(top.file, lists, f"{top.route}/*/{index}")


def _statistics(shell: Place) -> dict[str, object]:
    """Return the statistics of one shell by their ISPyB names, resolution in Å."""
    ends = sorted(shell[name].number() for name in ("d_star_sq_min", "d_star_sq_max"))
    if not 0 < ends[0] <= ends[1] < LARGEST:
        raise ProgramError(
            f"{shell.file} holds {short(ends)} as 1/d² at {shell.route or 'its top'}; two positive "
            "numbers are expected."
        )
    low, high = (1 / math.sqrt(end) for end in ends)
    return {
        "res_lim_low": low,
        "res_lim_high": high,
        **{new: each.number() for name, new in _NAMES.items() if (each := shell.get(name))},
    }
