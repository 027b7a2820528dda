"""Old home of names that sites import; they live where they are imported from here."""

from zwrap.configuration.recipe_id import (
    RecipeIDFilter as RecipeIDFilter,
)
from zwrap.configuration.recipe_id import (
    RecipeIDFormatter as RecipeIDFormatter,
)
from zwrap.configuration.recipe_id import (
    recipe_context as recipe_context,
)
from zwrap.service.status import extended_status_dictionary as extended_status_dictionary
