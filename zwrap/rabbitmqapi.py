"""Old home of names that sites import; they live in `zwrap.transport.rabbitmq.management.api`."""

from zwrap.transport.rabbitmq.management.api import *  # noqa: F403
