"""Old home of names that sites import; they now live in the modules named below."""

from zwrap.configuration.recipe_id import (
    RecipeIDFilter as RecipeIDFilter,
    RecipeIDFormatter as RecipeIDFormatter,
    recipe_context as recipe_context,
)
from zwrap.service.status import extended_status_dictionary as extended_status_dictionary
