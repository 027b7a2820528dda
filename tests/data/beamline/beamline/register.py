"""A service that carries out named commands on a table, as those before a database do."""

from __future__ import annotations

import workflows.recipe
from workflows.services.common_service import CommonService


class Register(CommonService):
    """Stores samples and measurements, and hands their numbers on with the recipe."""

    _service_name = "Register"
    _logger_name = "beamline.services.register"

    def initializing(self):
        self._rows = {}
        self._known = dict(self._environment.get("config").storage["beamline.samples"])
        workflows.recipe.wrap_subscribe(
            self._transport,
            "beamline.register",
            self.receive,
            acknowledgement=True,
            log_extender=self.extend_log,
            allow_non_recipe_messages=True,
        )

    def receive(self, rw, header, message):
        if not rw:
            self.log.info("Plain message")
            self._transport.send("beamline.register.plain", {"plain": message})
            self._transport.ack(header)
            return

        def parameter(name, default=None):
            if isinstance(message, dict) and name in message:
                return message[name]
            if name in rw.environment:
                return rw.environment[name]
            return rw.recipe_step["parameters"].get(name, default)

        command = getattr(self, f"do_{parameter('command')}", None)
        if command is None:
            self.log.error("Unknown command %r", parameter("command"))
            rw.transport.nack(header, requeue=False)
            return
        txn = rw.transport.transaction_begin(subscription_id=header["subscription"])
        rw.transport.ack(header, transaction=txn)
        result = command(parameter=parameter, rw=rw, transaction=txn)
        if not result:
            rw.transport.transaction_abort(txn)
            rw.transport.nack(header, requeue=False)
            return
        if store := rw.recipe_step["parameters"].get("store_result"):
            rw.environment[store] = result["return_value"]
        rw.set_default_channel("output")
        rw.send({"result": result["return_value"]}, transaction=txn)
        rw.transport.transaction_commit(txn)

    def do_sample(self, parameter, **kwargs):
        name = parameter("name")
        if name not in self._known:
            self.log.warning("There is no sample %s", name)
            return False
        return {"success": True, "return_value": self._known[name]}

    def do_measurement(self, parameter, rw, transaction, **kwargs):
        row = {name: parameter(name) for name in ("sample_number", "resolution", "wavelength")}
        number = self._rows.setdefault(str(row), len(self._rows) + 1)
        rw.send_to("rows", {"number": number, "row": row}, transaction=transaction)
        return {"success": True, "return_value": number}

    def do_several(self, parameter, rw, transaction, **kwargs):
        commands = rw.recipe_step["parameters"]["commands"]
        for number, command in enumerate(commands):
            rw.send_to(
                "several",
                {"step": number, **command},
                header={"step": number},
                transaction=transaction,
            )
        return {"success": True, "return_value": len(commands)}
