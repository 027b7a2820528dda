"""``zocalo.cli``: what code imports of it; the commands themselves are zwrap's."""
