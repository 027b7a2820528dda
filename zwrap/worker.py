"""Old home of names that sites import; they live in `zwrap.workers.functions`."""

from zwrap.workers.functions import (
    SkipMessage as SkipMessage,
)
from zwrap.workers.functions import (
    Worker as Worker,
)
from zwrap.workers.functions import (
    queue_json_publish as queue_json_publish,
)
from zwrap.workers.functions import (
    worker as worker,
)
