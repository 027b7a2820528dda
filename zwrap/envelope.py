"""Old home of names that sites import; they live in `zwrap.recipe.envelope`."""

from zwrap.recipe.envelope import (
    Envelope as Envelope,
)
