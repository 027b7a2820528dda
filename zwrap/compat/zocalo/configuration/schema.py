"""The base of the schemas of configuration plugins, which are those of package marshmallow."""

from __future__ import annotations

import marshmallow


class PluginSchema(marshmallow.Schema):  # type: ignore[misc]  # marshmallow is not always there
    """Schema of a section of any plugin; a plugin's ``Schema`` adds fields."""

    plugin = marshmallow.fields.String(required=True)
