"""The energy scan that says most about the wavelength of a data collection."""

from __future__ import annotations

from collections.abc import Sequence

from zwrap.service.ispyb.lookup.found import Row, Value, number

EV_ANGSTROM = 12398.42
"""Energy of a photon of 1 angstrom, in eV, as python-dlstbx has it."""

REMOTE_EV = 30.0
"""Distance from the edge at which a wavelength is remote, in eV."""


def scan_info(scans: Sequence[Row], wavelength: float | None, sample: Value) -> dict[str, object]:
    """Return the scan nearest to a wavelength in angstrom, and its place at the edge.

    Scans of the sample itself go before those of other samples of the protein. Empty if there is no
    scan with the energies of peak and inflection.
    """
    usable = [
        (row, peak, inflection)
        for row in scans
        if (peak := number(row, "peakEnergy")) is not None
        and (inflection := number(row, "inflectionEnergy")) is not None
    ]
    own = [each for each in usable if each[0]["blSampleId"] == sample]
    if not wavelength or not usable:
        return {}
    energy = EV_ANGSTROM / wavelength
    row, peak, inflection = min(
        own or usable, key=lambda each: min(abs(each[1] - energy), abs(each[2] - energy))
    )
    place = _place(energy, peak, inflection)
    found: dict[str, object] = {
        "energyscanid": row["energyScanId"],
        "atom_type": row["element"],
        "edge_position": place,
    }
    if place == "peak":
        found |= {"fp": row["peakFPrime"], "fpp": row["peakFDoublePrime"]}
    elif place == "infl":
        found |= {"fp": row["inflectionFPrime"], "fpp": row["inflectionFDoublePrime"]}
    return found


def _place(energy: float, peak: float, inflection: float) -> str:
    """Return where an energy is at the edge: high or low remote, inflection or peak."""
    if energy > peak + REMOTE_EV:
        return "hrem"
    if energy < inflection - REMOTE_EV:
        return "lrem"
    return "infl" if abs(energy - inflection) < abs(energy - peak) else "peak"
