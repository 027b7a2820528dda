"""Check of recipe files, as a function and as a program."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from zwrap.compat.workflows.recipe.recipe import Recipe


def validate_recipe(json_filename: str) -> None:
    """Read a recipe file and check it; what is wrong is logged, and raised.

    Raises:
        OSError: The file cannot be read.
        json.JSONDecodeError: It holds no JSON text.
        zwrap.compat.workflows.Error: It holds no valid recipe.
    """
    try:
        Recipe(Path(json_filename).read_text(encoding="utf-8")).validate()
    except Exception as error:
        logging.getLogger("workflows.recipe").error("Recipe file %s: %s", json_filename, error)
        raise


def main() -> None:
    """Check the files that the command line names; exit with status 1 if one is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", help="recipe files")
    wrong = []
    for file in parser.parse_args().files:
        try:
            validate_recipe(file)
        except Exception:
            wrong.append(file)
    if wrong:
        sys.exit(f"Errors found in the following recipes: {', '.join(wrong)}")


if __name__ == "__main__":
    main()
