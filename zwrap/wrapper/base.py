"""Old home of names that sites import; they live in `zwrap.wrapper.python`."""

from zwrap.wrapper.python import (
    BaseWrapper as BaseWrapper,
    DummyWrapper as DummyWrapper,
    RecipeWrapper as RecipeWrapper,
    StatusNotifications as StatusNotifications,
)
