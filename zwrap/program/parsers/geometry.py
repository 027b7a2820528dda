"""Distance and beam centre of a detector, from experiment models that DIALS and xia2 write.

Lengths in mm. The frame and the parallax correction are those of dxtbx
(``dxtbx.model.ParallaxCorrectedPxMmStrategy``).
"""

from __future__ import annotations

import math
from collections.abc import Callable

from zwrap.errors import ProgramError
from zwrap.program.parsers.document import Place

Vector = tuple[float, float, float]


def detector_distance_and_beam(detector: Place, beam: Place) -> tuple[float, float, float]:
    """Return the distance along the panel's normal, and the beam centre on its fast and slow axes.

    The parallax correction is applied and removed again, as xia2 does by converting to pixels and
    back, so that values equal those of its own reports.
    """
    panel = detector["panels"][0]
    fast, slow, origin = (_vector(panel[key]) for key in ("fast_axis", "slow_axis", "origin"))
    to_source = _vector(beam["direction"])
    ray = (-to_source[0], -to_source[1], -to_source[2])
    normal = _cross(fast, slow)
    distance, towards = _dot(origin, normal), _dot(ray, normal)
    if abs(towards) < 1e-12:
        raise ProgramError(f"{panel.file}: the beam does not hit the panel at {panel.route}.")
    hit = _vector_of(lambda i: distance / towards * ray[i] - origin[i])
    x, y = _dot(hit, fast), _dot(hit, slow)
    dx, dy = _parallax(panel, fast, slow, origin, x, y)
    x, y = x + dx, y + dy
    dx, dy = _parallax(panel, fast, slow, origin, x, y)
    return abs(distance), x - dx, y - dy


def _parallax(
    panel: Place, fast: Vector, slow: Vector, origin: Vector, x: float, y: float
) -> tuple[float, float]:
    """Return the shift of a spot at (x, y), in mm, because the sensor absorbs photons in depth."""
    strategy = panel.get("px_mm_strategy")
    kind = strategy.get("type") if strategy else None
    if kind is None or kind.value != "ParallaxCorrectedPxMmStrategy":
        return 0.0, 0.0
    mu, thickness = panel["mu"].number(), panel["thickness"].number()
    place = _vector_of(lambda i: origin[i] + x * fast[i] + y * slow[i])
    length = math.hypot(*place)
    if not mu or not length:
        return 0.0, 0.0
    ray = _vector_of(lambda i: place[i] / length)
    cosine = _dot(ray, _cross(fast, slow))
    if not cosine:
        return 0.0, 0.0
    path = thickness / cosine
    depth = 1 / mu - (path + 1 / mu) * math.exp(-mu * path) if -mu * path < 700 else math.inf
    return _dot(ray, fast) * depth, _dot(ray, slow) * depth


def _vector_of(component: Callable[[int], float]) -> Vector:
    """Return the vector with these components."""
    return component(0), component(1), component(2)


def _vector(place: Place) -> Vector:
    """Return the vector in a document."""
    x, y, z = place.numbers(3)
    return x, y, z


def _dot(a: Vector, b: Vector) -> float:
    """Return the dot product of two vectors."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def _cross(a: Vector, b: Vector) -> Vector:
    """Return the cross product of two vectors."""
    return (
        a[1] * b[2] - a[2] * b[1],
        a[2] * b[0] - a[0] * b[2],
        a[0] * b[1] - a[1] * b[0],
    )
