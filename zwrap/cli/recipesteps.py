"""What `zwrap recipe check` and `zwrap check` say about the steps that become jobs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from zwrap.cli.common import complain, say
from zwrap.configuration.site import Configuration
from zwrap.errors import RecipeError, RequestError, ZwrapError
from zwrap.message.limits import Limits
from zwrap.program.checks.inline import inline_faults
from zwrap.recipe.graph import Recipe
from zwrap.recipe.remarks import repeated_remark
from zwrap.submission.inspection import Inspection, Opinion


def check_files(
    configuration: Configuration, files: Sequence[Path], read: Callable[[Path], Recipe]
) -> int:
    """Check recipe files, and tell what clusters make of their steps; return the exit status.

    `read` returns the recipe in a file; ZwrapError if there is none.
    """
    inspection = Inspection(configuration)
    status = 0
    for file in files:
        try:
            recipe = read(file)
        except ZwrapError as error:
            complain(str(error))
            status = max(status, error.exit_status)
            continue
        faults: list[ZwrapError] = [*inline_faults(recipe.nodes)]
        opinions = list(inspection.opinions(recipe))
        faults += _faults(opinions)
        for fault in faults:
            complain(f"recipe {file}: {fault}")
            status = max(status, fault.exit_status)
        if not faults:
            say(f"good: recipe {file}")
        for opinion in opinions:
            if opinion.fault not in faults:
                where = f" on cluster {opinion.cluster}" if opinion.cluster else ""
                say(f"  node {opinion.node}{where}: {opinion.said}")
    say(f"{len(files)} checked.")
    return status


def check_file(inspection: Inspection, file: Path, limits: Limits) -> None:
    """Raise ZwrapError if a recipe file, or a step of it that would become a job, is wrong."""
    recipe = sound_recipe(file, limits)
    if faults := [*inline_faults(recipe.nodes), *_faults(inspection.opinions(recipe))]:
        more = f" ({len(faults) - 1} more: zwrap recipe check)" if len(faults) > 1 else ""
        raise RequestError(f"recipe {file}: {faults[0]}{more}")


def sound_recipe(file: Path, limits: Limits) -> Recipe:
    """Return the recipe in a file; RecipeError if it has a fault, or one key more than once.

    A Dispatcher starts such a recipe all the same, as python-zocalo does, and logs a warning.
    """
    recipe = Recipe.from_file(file, limits)
    if recipe.repeated:
        raise RecipeError(repeated_remark(recipe.name, recipe.repeated))
    return recipe


def _faults(opinions: Iterable[Opinion]) -> list[ZwrapError]:
    """Return the faults of steps on the clusters to which they would go."""
    return [each.fault for each in opinions if each.goes_there and each.fault is not None]
