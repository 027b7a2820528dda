"""Services that hand a step over to a program, and that begin recipes."""

import json
import pathlib
import shlex
import subprocess

import workflows.recipe
from workflows.services.common_service import CommonService, Status


class HandOver(CommonService):
    """Writes the step into a file and runs a command that reads it."""

    _service_name = "Hand-over"
    _logger_name = "beamline.services.handover"

    def initializing(self):
        self.log.info("%s begins with status %s", self.get_name(), Status.STARTING.description)
        workflows.recipe.wrap_subscribe(
            self._transport,
            "beamline.handover",
            self.hand_over,
            acknowledgement=True,
            log_extender=self.extend_log,
        )

    def hand_over(self, rw, header, message):
        parameters = rw.recipe_step["parameters"]
        txn = self._transport.transaction_begin(subscription_id=header["subscription"])
        self._transport.ack(header, transaction=txn)
        file = pathlib.Path(parameters["working_directory"]) / "step.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        step = {
            "recipe": rw.recipe.recipe,
            "recipe-pointer": rw.recipe_pointer,
            "environment": rw.environment,
            "recipe-path": rw.recipe_path,
            "payload": rw.payload,
        }
        file.write_text(json.dumps(step, indent=2))
        command = shlex.split(parameters["command"].replace("$RECIPEWRAP", str(file)))
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        answer = {"status": done.returncode, "step": json.loads(done.stdout)}
        rw.send_to("done" if done.returncode == 0 else "failed", answer, transaction=txn)
        self._transport.transaction_commit(txn)


class Starter(CommonService):
    """Begins a recipe for each sample that a message names."""

    _service_name = "Starter"
    _logger_name = "beamline.services.starter"

    def initializing(self):
        workflows.recipe.wrap_subscribe(
            self._transport,
            "beamline.start",
            self.begin,
            acknowledgement=True,
            log_extender=self.extend_log,
        )

    def begin(self, rw: workflows.recipe.wrapper.RecipeWrapper, header: dict, message: dict):
        txn = rw.transport.transaction_begin(subscription_id=header["subscription"])
        rw.transport.ack(header, transaction=txn)
        for number, sample in enumerate(message["samples"]):
            recipe = workflows.recipe.Recipe(rw.recipe_step["parameters"]["recipe"])
            recipe.validate()
            recipe.apply_parameters({"sample": sample, "exposure": {"time_s": [0.1, 0.2]}})
            wrapper = workflows.recipe.wrapper.RecipeWrapper(recipe=recipe, transport=rw.transport)
            wrapper.environment = {"ID": f"scan-{number}", "parent": rw.environment["ID"]}
            wrapper.start(header={"sample": sample}, transaction=txn)
        rw.send({"started": len(message["samples"])}, transaction=txn)
        rw.transport.transaction_commit(txn)
