"""Old home of names that sites import; they live in `zwrap.workers.functions`."""

from zwrap.workers.functions import (
    SkipMessage as SkipMessage,
    Worker as Worker,
    queue_json_publish as queue_json_publish,
    worker as worker,
)
