"""Wrappers that use the heartbeat, the configuration and the transport themselves."""

from __future__ import annotations

import json

import workflows.services.common_service
from zocalo.wrapper import BaseWrapper


class Report(BaseWrapper):
    """Tells in its heartbeat how far it is, and reports where and for whom it ran."""

    _logger_name = "beamline.wrapper.report"

    def run(self):
        Status = workflows.services.common_service.Status  # noqa: N806  (a class)
        self.status_thread.set_status(Status.PROCESSING)
        self.status_thread.taskname += " (page 1)"
        self.status_thread.set_static_status_field("pages", 1)
        self.log.info("Reporting for %s", self.config.storage["beamline.name"])
        node = self.recwrap.recipe_step
        self.recwrap.send_to(
            "report",
            {
                "beamline": self._environment["config"].storage["beamline.name"],
                "step": self.recwrap.recipe_pointer,
                "through": self.recwrap.recipe_path,
                "numbers": sorted(str(key) for key in self.recwrap.recipe.recipe),
                "queue": node["queue"],
                "parameters": node.get("parameters"),
                "alive": self.status_thread.is_alive(),
            },
        )
        return True


class Bundle(BaseWrapper):
    """Sends by the transport itself, beside the recipe."""

    _logger_name = "beamline.wrapper.bundle"

    def run(self):
        transport = self.recwrap.transport
        if not transport.is_connected():
            return False
        for name in self.recwrap.recipe_step["job_parameters"]["files"]:
            transport.send("beamline.bundle", {"file": name}, headers={"from": "bundle"})
        transport.raw_send("beamline.bundle", json.dumps({"raw": [1, 2.5, None]}))
        transport.broadcast("beamline.bundles", {"bundle": "complete"})
        self.recwrap.send({"files": len(self.recwrap.recipe_step["job_parameters"]["files"])})
        return "complete"
