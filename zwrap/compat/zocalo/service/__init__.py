"""``zocalo.service``: the services, which zwrap's `zocalo.service` runs."""

from zwrap.plugins.offering import offer

__getattr__, __dir__ = offer(
    __name__,
    {},
    {
        "ServiceStarter": "the program is `zocalo.service` of zwrap, which takes the same options.",
        "start_service": "the program is `zocalo.service` of zwrap, which takes the same options.",
    },
)
