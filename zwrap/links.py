"""Old home of names that sites import; they live in `zwrap.host.files`."""

from zwrap.host.files import (
    create_parent_symlink as create_parent_symlink,
)
