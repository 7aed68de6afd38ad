"""What lines a street scene: houses, gardens, trees and the view where the street ends."""

import dataclasses
import math
from collections.abc import Callable

import numpy as np

from gan_seg_jax.data.scenes import objects
from gan_seg_jax.data.scenes.canvas import BUILDING, FRONT, NEAR, TREE, UP, Camera, Canvas, Light, pick
from gan_seg_jax.data.scenes.surfaces import Street, Wall

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


def add_house(
    rng: np.random.Generator, scene: Scene, side: int, front: float, near: float, far: float, tall: float, lit: float
) -> None:
    """Add a house: its wall on the street, its wall towards the camera and, sometimes, a pitched roof."""
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


def add_garden(
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
        add_fence(rng, scene, side * front, near, far)
    elif kind < 0.75:
        _add_hedge(rng, scene, side * (front + 0.3), near, far, crowns, foliage)
    for z in np.arange(near + 1.0, far, rng.uniform(2.5, 8.0) + 0.06 * near):
        add_tree(rng, scene, side * (front + rng.uniform(1.5, 9.0)), float(z), crowns, foliage)


def _add_hedge(
    rng: np.random.Generator, scene: Scene, x: float, near: float, far: float, crowns: list, foliage: np.ndarray
) -> None:
    """Add a hedge along the street; it is labelled as trees, like all vegetation."""
    tall = rng.uniform(0.9, 2.2)

    def paint(canvas: Canvas) -> None:
        color = canvas.light.shade(foliage, (math.copysign(0.7, -x), 0.7, 0.0), near)
        canvas.paint([([(x, 0, far), (x, 0, near), (x, tall, near), (x, tall, far)], color)], TREE)
        for z in np.arange(far, near, -max(0.8, (far - near) / 9)).tolist():
            tint = canvas.light.shade(foliage * rng.uniform(0.85, 1.2), UP, 0.0)
            canvas.stamp(
                (x, tall * rng.uniform(0.5, 0.9), z), (0.9, 0.5), crowns[rng.integers(len(crowns))], tint, TREE
            )

    scene.things.append((far, paint))
    scene.shadows.append((x - 0.4, x + 0.4, near, far, tall))


def add_fence(rng: np.random.Generator, scene: Scene, x: float, near: float, far: float) -> None:
    """Add a fence along the street."""
    scene.things.append((far, lambda canvas: objects.paint_fence(canvas, rng, x, near, far)))


def add_tree(rng: np.random.Generator, scene: Scene, x: float, z: float, crowns: list, foliage: np.ndarray) -> None:
    """Add a tree or, now and then, a bush."""
    size = rng.uniform(1.2, 2.6) if rng.random() < 0.2 else rng.uniform(4.0, 11.0)
    scene.things.append(
        (z, lambda canvas: objects.paint_tree(canvas, rng, x, z, crowns, foliage * rng.uniform(0.85, 1.15), size))
    )
    scene.shadows.append((x - 0.3 * size, x + 0.3 * size, z, z, size))


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
            add_tree(rng, scene, x, z - 4.0, crowns, foliage)
