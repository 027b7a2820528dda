"""Old home of names that sites import; they live in `zwrap.host.paths`."""

from zwrap.host.paths import (
    default_spool as default_spool,
)
from zwrap.host.paths import (
    state_directory as state_directory,
)
