"""The parameters that a site makes of those of the look-up, such as its directories."""

from __future__ import annotations

import re
from collections.abc import Mapping

from zwrap.message.limits import Limits
from zwrap.recipe.substitution import Filling

Parameters = dict[str, object]
"""Parameters of a request, by name."""


def fill_templates(
    templates: Mapping[str, str], parameters: Parameters, year: int | None, limits: Limits
) -> None:
    """Set a parameter from each template, in order, so that later ones may use earlier ones.

    A parameter becomes None if its template asks for what is not known. Beside the parameters
    templates may use ``{year}``, the year in which the visit began; ``{below_visit}``, the image
    directory below that of the visit; and ``{collection}``, prefix and number of the data
    collection.

    Raises:
        RecipeError: What is filled in is larger than `limits` allow.
    """
    for name, template in templates.items():
        filling = Filling(_known({**parameters, **_parts(parameters, year)}), limits)
        text = filling.text(template)
        parameters[name] = None if filling.unfilled else _joined(text)


def _parts(parameters: Parameters, year: int | None) -> Parameters:
    """Return the names that only templates know."""
    info = parameters.get("ispyb_dc_info")
    row = info if isinstance(info, dict) else {}
    visit, images = parameters.get("ispyb_visit_directory"), row.get("imageDirectory")
    below = None
    if isinstance(visit, str) and isinstance(images, str):
        inside = f"{images}/".startswith(f"{visit}/")
        below = images.removeprefix(visit).strip("/") if inside else images.strip("/")
    prefix, number = row.get("imagePrefix") or "", row.get("dataCollectionNumber") or ""
    return {
        "year": year,
        "below_visit": below,
        "collection": f"{prefix}_{number}" if prefix or number else "",
    }


def _known(parameters: Parameters) -> Parameters:
    """Return the parameters that have a value, and of mappings the keys that have one."""
    return {
        name: _known(value) if isinstance(value, dict) else value
        for name, value in parameters.items()
        if value is not None
    }


def _joined(text: str) -> str:
    """Return a path without empty parts; any other text as it is."""
    return re.sub("/{2,}", "/", text).rstrip("/") or "/" if text.startswith("/") else text
