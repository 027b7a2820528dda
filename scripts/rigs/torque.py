"""Slurm with the commands of PBS and Torque (qsub, qstat, qdel) in Debian's slurm-wlm-torque.

That package cannot be installed beside those of Grid Engine, so it is unpacked in the directory.
"""

import os
import subprocess
from pathlib import Path
from typing import Any

from .base import RigError
from .slurm import Slurm

UNPACKED = ("slurm-wlm-torque", "libslurm-perl", "libslurmdb-perl", "libslurm38")


class SlurmTorque(Slurm):
    def prepare(self) -> dict[str, Any]:
        told, place = super().prepare(), self.directory / "torque"
        place.mkdir(exist_ok=True)
        got = self._download(place)
        if got.returncode:  # as where no list of packages was ever fetched
            subprocess.run(["apt-get", "-qq", "update"], check=False, capture_output=True)
            got = self._download(place)
        if got.returncode:
            raise RigError(f"apt-get download {' '.join(UNPACKED)} failed: {got.stderr[-500:]}")
        for package in place.glob("*.deb"):
            subprocess.run(["dpkg-deb", "-x", package, place], check=True)
        (place / "usr/bin/sbatch").symlink_to("/usr/bin/sbatch")  # qsub expects it beside itself
        library = place / "usr/lib/x86_64-linux-gnu"
        [perl] = library.glob("perl5/*")
        return {
            **told,
            "programs": str(place / "usr/bin"),
            "environment": {
                "SLURM_CONF": told["SLURM_CONF"],
                "PERL5LIB": str(perl),
                "LD_LIBRARY_PATH": str(library),
            },
        }

    @staticmethod
    def _download(place: Path) -> "subprocess.CompletedProcess[str]":
        """Download the packages; as root without a sandbox, which could not write here."""
        command = ["apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", *UNPACKED]
        return subprocess.run(
            command, cwd=place, env={**os.environ, "LC_ALL": "C"}, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
