"""Old home of names that sites import; they live in `zwrap.transport.diagnosis`."""

from zwrap.transport.diagnosis import (
    diagnosis as diagnosis,
)
from zwrap.transport.diagnosis import (
    recipe_id_of as recipe_id_of,
)
