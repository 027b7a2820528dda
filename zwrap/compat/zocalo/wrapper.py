"""``zocalo.wrapper``: the base class of wrappers."""

from __future__ import annotations

from zwrap.wrapper.python import (
    BaseWrapper as BaseWrapper,
    DummyWrapper as DummyWrapper,
    StatusNotifications as StatusNotifications,
)
