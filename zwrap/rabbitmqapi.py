"""Old home of names that sites import; they live in `zwrap.transport.rabbitmq.management.api`."""

from zwrap.transport.rabbitmq.management.api import (
    BindingInfo as BindingInfo,
)
from zwrap.transport.rabbitmq.management.api import (
    BindingSpec as BindingSpec,
)
from zwrap.transport.rabbitmq.management.api import (
    ConnectionInfo as ConnectionInfo,
)
from zwrap.transport.rabbitmq.management.api import (
    DestinationType as DestinationType,
)
from zwrap.transport.rabbitmq.management.api import (
    ExchangeInfo as ExchangeInfo,
)
from zwrap.transport.rabbitmq.management.api import (
    ExchangeSpec as ExchangeSpec,
)
from zwrap.transport.rabbitmq.management.api import (
    NodeInfo as NodeInfo,
)
from zwrap.transport.rabbitmq.management.api import (
    PermissionSpec as PermissionSpec,
)
from zwrap.transport.rabbitmq.management.api import (
    PolicySpec as PolicySpec,
)
from zwrap.transport.rabbitmq.management.api import (
    QueueInfo as QueueInfo,
)
from zwrap.transport.rabbitmq.management.api import (
    QueueSpec as QueueSpec,
)
from zwrap.transport.rabbitmq.management.api import (
    RabbitMQAPI as RabbitMQAPI,
)
from zwrap.transport.rabbitmq.management.api import (
    UserSpec as UserSpec,
)
from zwrap.transport.rabbitmq.management.api import (
    VHostSpec as VHostSpec,
)
from zwrap.transport.rabbitmq.management.api import (
    hash_password as hash_password,
)
from zwrap.transport.rabbitmq.management.api import (
    http_api_request as http_api_request,
)
