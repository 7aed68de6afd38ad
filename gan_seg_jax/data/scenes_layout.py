"""Lay out a street scene: the ground plan and everything that stands on it, in metres."""

import dataclasses
import math
from collections.abc import Callable

import numpy as np

from gan_seg_jax.data import scenes_objects as objects
from gan_seg_jax.data.scenes_canvas import BUILDING, FRONT, NEAR, TREE, UP, Camera, Canvas, Light, pick
from gan_seg_jax.data.scenes_surfaces import Street, Wall

FACADES = np.array(
    [
        (178, 172, 160),
        (150, 150, 150),
        (120, 118, 116),
        (205, 198, 182),
        (142, 74, 56),
        (165, 98, 72),
        (110, 62, 50),
        (190, 160, 110),
    ]
    + [
        (120, 135, 112),
        (96, 116, 84),
        (150, 170, 190),
        (95, 105, 120),
        (200, 190, 195),
        (210, 170, 140),
        (75, 72, 70),
        (222, 220, 214),
    ]
)
FOLIAGE = np.array(
    [
        (78, 112, 48),
        (58, 92, 42),
        (98, 122, 58),
        (120, 130, 60),
        (150, 118, 45),
        (150, 82, 40),
        (70, 90, 70),
        (110, 105, 82),
    ]
)
BARE = (0, 0, 0)  # a wall before `shade_walls` gives it its face


@dataclasses.dataclass
class Scene:
    """A street under construction.

    Attributes:
        camera, light, street: What it is seen by and stands on.
        things: (z, paint) of everything that stands there; `paint(canvas)` is called from far to near.
        shadows: (left, right, near, far, height) in metres of what keeps the sun out; round things have near = far.
        walls: The walls that `paint` numbers.
    """

    camera: Camera
    light: Light
    street: Street
    things: list[tuple[float, Callable[[Canvas], None]]] = dataclasses.field(default_factory=list)
    shadows: list[tuple[float, float, float, float, float]] = dataclasses.field(default_factory=list)
    walls: list[Wall] = dataclasses.field(default_factory=list)


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
        grass_color=pick(rng, FOLIAGE[:5], 8.0),
        slab=float(rng.choice((0.0, 0.4, 0.6, 0.9))),
    )


def add_side(rng: np.random.Generator, scene: Scene, side: int, lit: float, crowns: list, foliage: np.ndarray) -> None:
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
                _add_house(
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
                _add_garden(rng, scene, side, front, z, z + length, crowns, foliage)
        z = gap[1] if gap[0] - 2.0 <= z + length < gap[1] else z + length
    kinds, shares = ("lamp", "sign", "light", "bare"), rng.dirichlet((2.0, 2.2, 0.9, 1.0))
    trees, poles, cars = rng.random(3) < (0.5, 1.0, 0.5)
    if trees:
        _add_row(
            rng,
            scene,
            side * (edge + verge + 0.5),
            rng.uniform(8, 16),
            lambda x, z: _add_tree(rng, scene, x, z, crowns, foliage),
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
        _add_fence(rng, scene, side * (edge + verge + 0.15), near, near + rng.uniform(6, 25))


def _add_row(rng: np.random.Generator, scene: Scene, x: float, gap: float, add: Callable[[float, float], None]) -> None:
    """Call add(x, z) along the street, about every `gap` metres, some left out, none on a crossing."""
    z, crossing = rng.uniform(3.0, 3.0 + gap), scene.street.crossing
    while z < 75.0:
        if rng.random() < 0.8 and not (crossing is not None and crossing[0] - 5.5 < z < crossing[1]):
            add(x + rng.normal(0, 0.12), z)
        z += gap * rng.uniform(0.8, 1.3)


def _add_house(
    rng: np.random.Generator, scene: Scene, side: int, front: float, near: float, far: float, tall: float, lit: float
) -> None:
    """Add a house along the street: the wall on the street, the wall towards the camera and, sometimes, a pitched roof."""
    camera, color = scene.camera, pick(rng, FACADES)
    tall = max(tall, 3.2)
    near_z, deep = max(near, NEAR), rng.uniform(8, 14)
    style = {
        "height": tall,
        "color": color,
        "glass": np.array([70, 82, 95]) * rng.uniform(0.4, 1.6),
        "trim": np.clip(color + rng.choice((-50, 40, 60)), 10, 245) if rng.random() < 0.8 else rng.uniform(60, 220, 3),
        "storey": rng.uniform(2.6, 3.4),
        "pitch": rng.uniform(1.5, 3.6),
        "shop": rng.uniform(3.0, 3.9) if rng.random() < 0.4 and tall > 6 else 0.0,
        "lit": lit,
        "brick": rng.uniform(0.03, 0.14),
    }
    window = (rng.uniform(0.35, 0.75), rng.uniform(0.4, 0.65))
    blind = rng.random() < 0.4
    feet = [(side * front, near_z), (side * front, far)], [(side * front, near_z), (side * (front + deep), near_z)]
    turns = ((-side, 0.0), window), ((0.0, -1.0), (0.0 if blind else window[0], window[1]))
    for (a, b), (normal, opening) in zip(feet, turns, strict=True):
        start, end = (a[0] + camera.bend * a[1] ** 2, a[1]), (b[0] + camera.bend * b[1] ** 2, b[1])
        slope = np.array([start[1] - end[1], end[0] - start[0]]) / math.hypot(end[0] - start[0], end[1] - start[1])
        outward = slope if slope @ np.array(normal) > 0 else -slope
        scene.walls.append(Wall(start=start, end=end, normal=tuple(outward), window=opening, **style))
    street_wall, end_wall = len(scene.walls) - 1, len(scene.walls)
    roof = rng.uniform(1.5, 4.0) if rng.random() < 0.4 and tall < 14 else 0.0
    tile = pick(rng, np.array([(120, 62, 48), (78, 76, 80), (98, 88, 78), (60, 58, 62), (140, 90, 70)]))
    x, ridge, inner = side * front, side * (front + 0.5 * deep), side * (front + deep)

    def paint(canvas: Canvas) -> None:
        canvas.paint(
            [([(x, 0, near_z), (inner, 0, near_z), (inner, tall, near_z), (x, tall, near_z)], BARE)],
            BUILDING,
            wall=end_wall,
        )
        if roof:
            gable = [(x, tall, near_z), (inner, tall, near_z), (ridge, tall + roof, near_z)]
            slope = [(x, tall, near_z), (x, tall, far), (ridge, tall + roof, far), (ridge, tall + roof, near_z)]
            shade = canvas.light.shade
            tones = shade(color, FRONT, near_z), shade(tile, (-side * 0.5, 0.87, 0.0), 0.5 * (near_z + far))
            canvas.paint(list(zip((gable, slope), tones, strict=True)), BUILDING)
        canvas.paint(
            [([(x, 0, near_z), (x, 0, far), (x, tall, far), (x, tall, near_z)], BARE)], BUILDING, wall=street_wall
        )

    scene.things.append((far, paint))
    scene.shadows.append((*sorted((x, inner)), near_z, far, tall + 0.6 * roof))


def _add_garden(
    rng: np.random.Generator,
    scene: Scene,
    side: int,
    front: float,
    near: float,
    far: float,
    crowns: list,
    foliage: np.ndarray,
) -> None:
    """Add a plot without a house on the street: a fence or a hedge in front of trees and bushes."""
    near = max(near, 1.5)
    if far - near < 1.0:
        return
    kind = rng.random()
    if kind < 0.45:
        _add_fence(rng, scene, side * front, near, far)
    elif kind < 0.75:
        _add_hedge(rng, scene, side * (front + 0.3), near, far, crowns, foliage)
    for z in np.arange(near + 1.0, far, rng.uniform(2.5, 8.0) + 0.06 * near):
        _add_tree(rng, scene, side * (front + rng.uniform(1.5, 9.0)), float(z), crowns, foliage)


def _add_hedge(
    rng: np.random.Generator, scene: Scene, x: float, near: float, far: float, crowns: list, foliage: np.ndarray
) -> None:
    """Add a hedge along the street; it is labelled as trees, like all vegetation."""
    tall = rng.uniform(0.9, 2.2)

    def paint(canvas: Canvas) -> None:
        color = canvas.light.shade(foliage, (math.copysign(0.7, -x), 0.7, 0.0), near)
        canvas.paint([([(x, 0, far), (x, 0, near), (x, tall, near), (x, tall, far)], color)], TREE)
        for z in np.arange(far, near, -max(0.8, (far - near) / 14)).tolist():
            tint = canvas.light.shade(np.clip(foliage * rng.uniform(0.85, 1.2), 0, 255), UP, 0.0)
            canvas.stamp(
                (x, tall * rng.uniform(0.5, 0.9), z), (0.9, 0.5), crowns[rng.integers(len(crowns))], tint, TREE
            )

    scene.things.append((far, paint))
    scene.shadows.append((x - 0.4, x + 0.4, near, far, tall))


def _add_fence(rng: np.random.Generator, scene: Scene, x: float, near: float, far: float) -> None:
    """Add a fence along the street."""
    scene.things.append((far, lambda canvas: objects.paint_fence(canvas, rng, x, near, far)))


def _add_tree(rng: np.random.Generator, scene: Scene, x: float, z: float, crowns: list, foliage: np.ndarray) -> None:
    """Add a tree or, now and then, a bush."""
    size = rng.uniform(1.2, 2.6) if rng.random() < 0.2 else rng.uniform(4.0, 11.0)
    scene.things.append(
        (z, lambda canvas: objects.paint_tree(canvas, rng, x, z, crowns, foliage * rng.uniform(0.85, 1.15), size))
    )
    scene.shadows.append((x - 0.3 * size, x + 0.3 * size, z, z, size))


def _add_pole(rng: np.random.Generator, scene: Scene, x: float, z: float, kind: str) -> None:
    """Add a lamp, a traffic sign, a traffic light or a bare pole."""
    scene.things.append((z, lambda canvas: objects.paint_pole(canvas, rng, x, z, kind=kind)))
    scene.shadows.append((x - 0.1, x + 0.1, z, z + 0.1, 5.0))


def _add_car(rng: np.random.Generator, scene: Scene, x: float, z: float, heading: str) -> None:
    """Add a car whose near end is at z."""
    scene.things.append((z + 1.0, lambda canvas: objects.paint_car(canvas, rng, x, z, heading=heading)))
    wide, long = (4.2, 1.8) if heading == "across" else (1.8, 4.2)
    left = x if heading == "across" else x - wide / 2
    scene.shadows.append((left, left + wide, z, z + long, 1.4))


def add_horizon(rng: np.random.Generator, scene: Scene, lit: float, crowns: list, foliage: np.ndarray) -> None:
    """Close the view with what is seen where the street ends: a few distant houses and trees, or nothing."""
    style = rng.choice(("town", "trees", "both", "open"), p=(0.35, 0.25, 0.25, 0.15))
    z, bend = rng.uniform(88.0, 130.0), scene.camera.bend
    for x in np.arange(-90.0, 90.0, rng.uniform(7.0, 13.0)).tolist():
        if style in ("town", "both") and rng.random() < 0.7:
            color, wide, tall = pick(rng, FACADES), rng.uniform(8, 20), rng.uniform(5, 26)
            feet = (x + bend * z * z, z), (x + wide + bend * z * z, z)
            trim, glass = np.clip(color + 40, 0, 250), np.array([80.0, 92, 105])
            scene.walls.append(Wall(*feet, tall, (0.0, -1.0), color, glass, trim, 3.0, 3.0, (0.5, 0.5), 0.0, lit, 0.05))
            corners = [(x, 0.0, z), (x + wide, 0.0, z), (x + wide, tall, z), (x, tall, z)]
            number = len(scene.walls)
            scene.things.append((z, lambda canvas, c=corners, n=number: canvas.paint([(c, BARE)], BUILDING, wall=n)))
        if style in ("trees", "both") and rng.random() < 0.8:
            _add_tree(rng, scene, x, z - 4.0, crowns, foliage)


def add_traffic(rng: np.random.Generator, scene: Scene) -> None:
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


def add_people(rng: np.random.Generator, scene: Scene) -> None:
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
            scene.things.append((z, lambda canvas, x=x, z=z: objects.paint_person(canvas, rng, x, z)))
            scene.shadows.append((x - 0.25, x + 0.25, z, z + 0.1, 1.7))
            x, z = x + rng.choice((-0.6, 0.6)), z + rng.uniform(0.05, 0.4)
