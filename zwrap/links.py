"""Old home of names that sites import; they live in `zwrap.host.links`."""

from zwrap.host.links import (
    create_parent_symlink as create_parent_symlink,
)
