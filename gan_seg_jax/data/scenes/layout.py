"""Lay out a street scene in metres: the ground plan, what stands along it and who is on it."""

import math
from collections.abc import Callable

import numpy as np

from gan_seg_jax.data.scenes import objects, plots, traffic
from gan_seg_jax.data.scenes.canvas import pick
from gan_seg_jax.data.scenes.surfaces import Street


def make_street(rng: np.random.Generator) -> Street:
    """Return a random ground plan; the camera drives on either side."""
    lane, with_parking = rng.uniform(2.9, 3.6), rng.uniform(0.0, 2.4)
    count = int(rng.integers(1, 4))
    inner, outer = -lane / 2 - lane * count, lane / 2 + with_parking
    lines = tuple(-lane / 2 - lane * i for i in range(count)) if rng.random() < 0.8 else ()
    if rng.random() < 0.35:
        inner, outer, lines = -outer, -inner, tuple(-line for line in lines)
    near = rng.uniform(9.0, 45.0)
    grey = rng.choice((62, 85, 105, 130, 150))
    return Street(
        left=inner,
        right=outer,
        lanes=lines,
        pavements=(rng.uniform(1.4, 4.5), rng.uniform(1.4, 4.5)),
        verges=tuple(rng.uniform(0.6, 2.0) if rng.random() < 0.25 else 0.0 for _ in range(2)),
        grass=(rng.random() < 0.5, rng.random() < 0.5),
        crossing=(near, near + rng.uniform(6, 10)) if rng.random() < 0.4 else None,
        zebra=rng.uniform(5.0, 22.0) if rng.random() < 0.25 else None,
        road_color=np.clip(grey + rng.normal(0, 3, 3) + rng.choice((0, 0, 10)) * np.array([1.0, 0.2, -0.8]), 20, 220),
        pavement_color=np.clip(
            rng.choice((95, 125, 150, 175)) + rng.normal(0, 8, 3) + rng.choice((0, 12)) * np.array([1.2, 0.2, -1.0]),
            20,
            230,
        ),
        grass_color=pick(rng, plots.FOLIAGE[:5], 8.0),
        slab=float(rng.choice((0.0, 0.4, 0.6, 0.9))),
    )


def add_side(
    rng: np.random.Generator, scene: plots.Scene, side: int, lit: float, crowns: list, foliage: np.ndarray
) -> None:
    """Line one side of the street with houses or gardens, then with fences, trees, poles and parked cars.

    Args:
        rng: Chooses everything.
        scene: Changed.
        side: -1 left, 1 right.
        lit: Share of windows with a light behind them.
        crowns: Of trees, `make_crowns`.
        foliage: Their colour, RGB.
    """
    street = scene.street
    edge = street.right if side > 0 else -street.left
    verge, pavement = street.verges[side > 0], street.pavements[side > 0]
    front, built = edge + verge + pavement, rng.choice((0.0, 0.3, 0.75, 1.0), p=(0.08, 0.22, 0.35, 0.35))
    typical, z = rng.uniform(4.0, 18.0), rng.uniform(-14.0, -4.0)
    gap = street.crossing or (math.inf, math.inf)
    while z < 85.0:
        length = rng.uniform(6.0, 22.0)
        if z < gap[1] and z + length > gap[0]:  # stop at the crossing street, go on behind it
            length = max(gap[0] - z, 0.0)
        if length > 2.0 and z + length > 1.0:
            if rng.random() < built:
                plots.add_house(
                    rng,
                    scene,
                    side,
                    front + rng.choice((0.0, 0.0, 1.5)),
                    z,
                    z + length,
                    typical * rng.uniform(0.7, 1.35),
                    lit,
                )
            else:
                plots.add_garden(rng, scene, side, front, z, z + length, crowns, foliage)
        z = gap[1] if gap[0] - 2.0 <= z + length < gap[1] else z + length
    kinds, shares = ("lamp", "sign", "light", "bare"), rng.dirichlet((2.0, 2.2, 0.9, 1.0))
    trees, poles, cars = rng.random(3) < (0.5, 1.0, 0.5)
    if trees:
        _add_row(
            rng,
            scene,
            side * (edge + verge + 0.5),
            rng.uniform(8, 16),
            lambda x, z: plots.add_tree(rng, scene, x, z, crowns, foliage),
        )
    if poles:
        x = side * (edge + rng.uniform(0.3, 0.9))
        _add_row(
            rng, scene, x, rng.uniform(6, 15), lambda x, z: _add_pole(rng, scene, x, z, rng.choice(kinds, p=shares))
        )
    if cars:
        heading = "away" if side * (street.right + street.left) < 0 or rng.random() < 0.5 else "towards"
        _add_row(
            rng, scene, side * (edge - 1.05), rng.uniform(5.6, 9.0), lambda x, z: _add_car(rng, scene, x, z, heading)
        )
    if rng.random() < 0.4:
        near = rng.uniform(3.0, 15.0)
        plots.add_fence(rng, scene, side * (edge + verge + 0.15), near, near + rng.uniform(6, 25))


def _add_row(
    rng: np.random.Generator, scene: plots.Scene, x: float, gap: float, add: Callable[[float, float], None]
) -> None:
    """Call add(x, z) along the street, about every `gap` metres, some left out, none on a crossing."""
    z, crossing = rng.uniform(3.0, 3.0 + gap), scene.street.crossing
    while z < 75.0:
        if rng.random() < 0.8 and not (crossing is not None and crossing[0] - 5.5 < z < crossing[1]):
            add(x + rng.normal(0, 0.12), z)
        z += gap * rng.uniform(0.8, 1.3)


def _add_pole(rng: np.random.Generator, scene: plots.Scene, x: float, z: float, kind: str) -> None:
    """Add a lamp, a traffic sign, a traffic light or a bare pole."""
    scene.things.append((z, lambda canvas: objects.paint_pole(canvas, rng, x, z, kind=kind)))
    scene.shadows.append((x - 0.1, x + 0.1, z, z + 0.1, 5.0))


def _add_car(rng: np.random.Generator, scene: plots.Scene, x: float, z: float, heading: str) -> None:
    """Add a car whose near end is at z."""
    scene.things.append((z + 1.0, lambda canvas: traffic.paint_car(canvas, rng, x, z, heading=heading)))
    wide, long = (4.2, 1.8) if heading == "across" else (1.8, 4.2)
    left = x if heading == "across" else x - wide / 2
    scene.shadows.append((left, left + wide, z, z + long, 1.4))


def add_traffic(rng: np.random.Generator, scene: plots.Scene) -> None:
    """Put cars on the lanes and on the crossing street."""
    street = scene.street
    width = 3.3
    for middle in np.arange(street.left + width / 2, street.right - 1.0, width).tolist():
        ours, z = abs(middle) < width / 2, rng.uniform(5.0, 30.0)
        oncoming = middle < -1.0 if street.right < -street.left else middle > 1.0
        while z < 80.0 and rng.random() < 0.7:
            _add_car(rng, scene, middle + rng.normal(0, 0.2), z + 3.0 * ours, "towards" if oncoming else "away")
            z += rng.uniform(7.0, 30.0)
    if street.crossing is not None:
        for _ in range(int(rng.integers(0, 4))):
            _add_car(
                rng,
                scene,
                rng.uniform(-18.0, 16.0),
                rng.uniform(street.crossing[0], street.crossing[1] - 2.0),
                "across",
            )


def add_people(rng: np.random.Generator, scene: plots.Scene) -> None:
    """Put people on the pavements and, now and then, on the road; some in groups."""
    street = scene.street
    for _ in range(int(rng.integers(1, 8))):
        side, z = int(rng.choice((-1, 1))), 4.5 + 30.0 * rng.random() ** 1.5
        edge = street.right if side > 0 else -street.left
        x = side * (edge + 0.5 + street.verges[side > 0] + rng.uniform(0.0, street.pavements[side > 0] - 0.5))
        if rng.random() < 0.2:
            x = rng.uniform(street.left, street.right)
        if street.zebra is not None and rng.random() < 0.3:
            x, z = rng.uniform(street.left, street.right), street.zebra + 1.5
        for _ in range(1 + int(rng.random() < 0.3)):
            scene.things.append((z, lambda canvas, x=x, z=z: traffic.paint_person(canvas, rng, x, z)))
            scene.shadows.append((x - 0.25, x + 0.25, z, z + 0.1, 1.7))
            x, z = x + rng.choice((-0.6, 0.6)), z + rng.uniform(0.05, 0.4)
