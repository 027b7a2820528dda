"""Old home of names that sites import; they live in `zwrap.wrapper.python`."""

from zwrap.wrapper.python import (
    BaseWrapper as BaseWrapper,
)
from zwrap.wrapper.python import (
    DummyWrapper as DummyWrapper,
)
from zwrap.wrapper.python import (
    RecipeWrapper as RecipeWrapper,
)
from zwrap.wrapper.python import (
    StatusNotifications as StatusNotifications,
)
