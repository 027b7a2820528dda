"""``zocalo.wrapper``: the base class of wrappers."""

from __future__ import annotations

from zwrap.wrapper.python import (
    BaseWrapper as BaseWrapper,
)
from zwrap.wrapper.python import (
    DummyWrapper as DummyWrapper,
)
from zwrap.wrapper.python import (
    StatusNotifications as StatusNotifications,
)
