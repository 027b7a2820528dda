"""Wrappers of programs, with the base class that all of a facility's have."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys

import zocalo.util.symlink
import zocalo.wrapper


class Wrapper(zocalo.wrapper.BaseWrapper):
    """The base class: a field in each heartbeat, and a line of metrics at the end."""

    name: str | None = None

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._counted = {"succeeded": 0, "failed": 0}

    def prepare(self, payload):
        super().prepare(payload)
        if getattr(self, "status_thread", None):
            self.status_thread.set_static_status_field("beamline", "i99")

    def done(self, payload):
        if self.config.storage.get("beamline.metrics"):
            self.recwrap.send_to("metrics", {"name": self.name, **self._counted})
        super().done(payload=payload)


class Indexing(Wrapper):
    """Runs a program, and records the files that it leaves."""

    _logger_name = "beamline.wrapper.indexing"
    name = "indexing"

    def run(self):
        assert hasattr(self, "recwrap"), "No recipewrapper object found"
        parameters = self.recwrap.recipe_step["job_parameters"]
        working = pathlib.Path(parameters["working_directory"])
        results = pathlib.Path(parameters["results_directory"])
        working.mkdir(parents=True, exist_ok=True)
        if parameters.get("create_symlink"):
            zocalo.util.symlink.create_parent_symlink(str(working), parameters["create_symlink"])

        script = f"print('unit cell', {parameters['cell']})"
        done = subprocess.run(
            [sys.executable, "-P", "-c", script],
            cwd=working,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            self._counted["failed"] += 1
            return False
        self.log.info("Indexing said: %s", done.stdout)
        results.mkdir(parents=True, exist_ok=True)
        kept = []
        for name, kind, rank in (("indexed.txt", "result", 1), ("indexing.log", "log", 2)):
            (results / name).write_text(done.stdout)
            kept.append(str(results / name))
            self.record_result_individual_file(
                {
                    "file_path": str(results),
                    "file_name": name,
                    "file_type": kind,
                    "importance_rank": rank,
                }
            )
        self.record_result_all_files({"filelist": kept})
        self.recwrap.send_to("cell", {"cell": parameters["cell"], "output": done.stdout})
        self._counted["succeeded"] += 1
        return True


class Integration(Wrapper):
    """Ends without success, and says so at places of its own."""

    _logger_name = "beamline.wrapper.integration"
    name = "integration"

    def success(self, payload):
        self.recwrap.send_to("verdict", {"good": True, "of": payload})
        super().success(payload)

    def failure(self, payload):
        self.recwrap.send_to("verdict", {"good": False, "of": payload})
        super().failure(payload)

    def run(self):
        for part in range(3):
            self.update({"part": part})
        return bool(self.recwrap.recipe_step["job_parameters"].get("succeeds"))


class Refinement(Wrapper):
    """Ends with an exception."""

    _logger_name = "beamline.wrapper.refinement"

    def failure(self, payload):
        self.recwrap.send_to("trouble", {"kind": type(payload).__name__, "text": str(payload)})
        super().failure(payload)

    def run(self):
        self.recwrap.send_to("cycles", {"r_free": 0.31})
        model = self.recwrap.recipe_step["job_parameters"]["model"]
        raise RuntimeError(f"No model in {model}")


class Strategy(Wrapper):
    """Works on what came with the message, and gives the next steps another environment."""

    _logger_name = "beamline.wrapper.strategy"
    name = "strategy"

    def run(self):
        payload = self.recwrap.payload
        self.recwrap.environment = {**self.recwrap.environment, "exposure_s": payload["dose"] / 4}
        self.recwrap.set_default_channel("strategies")
        for number, wedge in enumerate(payload["wedges"], 1):
            self.recwrap.send({"number": number, "wedge": wedge}, header={"wedge": str(number)})
        self.recwrap.environment["wedges"] = len(payload["wedges"])
        self.recwrap.send_to("summary", json.loads(json.dumps(self.recwrap.environment)))
        return True
