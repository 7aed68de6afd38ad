"""What stands along a street: trees, poles with lamps and signs, fences; painted on a `Canvas`."""

import functools
import itertools
import math

import numpy as np

from gan_seg_jax.data.scenes.canvas import FENCE, FRONT, POLE, SIGN, TREE, UP, Canvas, Light, box, disc, pick


def paint_tree(
    canvas: Canvas, rng: np.random.Generator, x: float, z: float, crowns: list, foliage: np.ndarray, size: float
) -> None:
    """Paint a tree: a trunk and some leafy crowns (`make_crowns`), `size` metres high."""
    pixel, scale = canvas.camera.pixel(x, 0.0, z)[0], canvas.camera.focal / z
    if not -size * scale < pixel < canvas.camera.width + size * scale:
        return
    trunk = size * rng.uniform(0.25, 0.45)
    thick = max(0.035 * size, 2.0 * z / canvas.camera.focal)
    bark = canvas.light.shade(np.array([82, 68, 54]) * rng.uniform(0.6, 1.3), FRONT, z)
    outline = [
        (x - thick / 2, 0.0, z),
        (x + thick / 2, 0.0, z),
        (x + thick / 3, trunk + 0.2 * size, z),
        (x - thick / 3, trunk + 0.2 * size, z),
    ]
    canvas.paint([(outline, bark)], TREE)
    narrow = rng.uniform(0.5, 1.0)
    for _ in range(int(rng.integers(2, 5)) if size * scale > 24 else 1):
        spread = 0.14 * size * narrow
        center = (x + rng.normal(0, spread), trunk + (size - trunk) * rng.uniform(0.35, 0.68), z)
        radius = ((size - trunk) * rng.uniform(0.3, 0.5) * narrow, (size - trunk) * rng.uniform(0.3, 0.48))
        color = canvas.light.shade(foliage * rng.uniform(0.8, 1.3), UP, 0.0)
        canvas.stamp(center, radius, crowns[rng.integers(len(crowns))], color, TREE)


def paint_pole(canvas: Canvas, rng: np.random.Generator, x: float, z: float, *, kind: str) -> None:
    """Paint a pole with what it carries.

    Args:
        canvas: Where to.
        rng: Chooses sizes and colours.
        x: Its foot in metres; a lamp leans over the road, towards x = 0.
        z: Its distance in metres.
        kind: "lamp", "sign", "light" (a traffic light), or "bare".
    """
    camera, shade = canvas.camera, functools.partial(canvas.light.shade, normal=FRONT, z=z)
    thick = max(rng.uniform(0.08, 0.2), 2.2 * z / camera.focal)  # at least one pixel after the picture is halved
    tall = {
        "lamp": rng.uniform(5, 8.5),
        "sign": rng.uniform(2.3, 3.2),
        "light": rng.uniform(2.9, 4.0),
        "bare": rng.uniform(3, 9),
    }[kind]
    metal = shade(rng.choice((55, 95, 140, 175)) * rng.uniform(0.85, 1.15, 3))
    polygons = [(box(x, z, thick, 0.0, tall), metal)]
    if kind == "lamp":
        arm = math.copysign(rng.uniform(0.8, 2.2), -x)
        rise, thin = rng.uniform(0.0, 0.5), max(0.08, 2.0 * z / camera.focal)
        polygons.append(
            ([(x, tall - thin, z), (x, tall, z), (x + arm, tall + rise, z), (x + arm, tall + rise - thin, z)], metal)
        )
        polygons.append((box(x + arm, z, 0.7, tall + rise - 0.12, tall + rise + 0.1), shade((205, 205, 200))))
    canvas.paint(polygons, POLE)
    if kind == "light":
        polygons = [(box(x, z, 0.42, tall - 0.25, tall + 0.85), shade((28, 30, 28)))]
        lit = int(rng.integers(3))
        for i, color in enumerate(((240, 40, 30), (245, 180, 40), (50, 230, 120))):
            polygons.append((disc(x, tall + 0.66 - 0.36 * i, z, 0.13, 8), color if i == lit else shade((50, 50, 48))))
        canvas.paint(polygons, SIGN)
    elif kind == "sign":
        canvas.paint(_sign_plates(rng, x, tall, z, shade), SIGN)


def _sign_plates(rng: np.random.Generator, x: float, tall: float, z: float, shade) -> list:
    """Return the polygons of one or two traffic signs whose topmost ends at `tall` metres."""
    polygons = []
    for i in range(int(rng.integers(1, 3))):
        size, y = rng.uniform(0.34, 0.58), tall - 0.3 - 0.85 * i
        ink = np.array([(190, 25, 30), (25, 70, 170), (30, 110, 70), (225, 180, 40), (235, 235, 230), (120, 122, 124)])[
            rng.integers(6)
        ]
        corners, turn = ((14, 0.0), (3, 0.0), (3, math.pi), (4, math.pi / 4), (8, math.pi / 8))[rng.integers(5)]
        inner = (235, 235, 228) if rng.random() < 0.6 else 0.75 * ink
        polygons.append((disc(x, y, z, size, corners, turn), shade(ink)))
        polygons.append((disc(x, y, z, 0.66 * size, corners, turn), shade(inner)))
        if rng.random() < 0.5:
            polygons.append((box(x, z, 0.4 * size, y - 0.3 * size, y + 0.25 * size), shade((30, 30, 32))))
    return polygons


def paint_fence(canvas: Canvas, rng: np.random.Generator, x: float, near: float, far: float) -> None:
    """Paint a fence along the street at x from `near` to `far` metres: boards, or railings one sees through.

    Railings are labelled as a whole, as annotators do, not bar by bar.
    """
    tall, open_, light = rng.uniform(0.8, 1.6), rng.random() < 0.6, canvas.light
    tone = pick(
        rng, np.array([(125, 95, 70), (150, 152, 155), (55, 58, 60), (60, 85, 62), (215, 212, 205), (95, 70, 55)])
    )
    normal = (math.copysign(0.98, -x), 0.2, 0.0)
    canvas.paint([([(x, 0.0, far), (x, 0.0, near), (x, tall, near), (x, tall, far)], None)], FENCE)
    polygons = []
    steps = np.linspace(far, near, max(2, min(24, int((far - near) / (0.5 if open_ else 1.0)) + 1))).tolist()
    for a, b in itertools.pairwise(steps):
        color = light.shade(tone * rng.uniform(0.85, 1.12), normal, b)
        if open_:
            polygons.append(([(x, 0.0, b), (x, tall, b), (x, tall, b + 0.14), (x, 0.0, b + 0.14)], color))
            for low in (0.08, 0.5, 0.94):
                polygons.append(
                    (
                        [
                            (x, low * tall, a),
                            (x, low * tall, b),
                            (x, (low + 0.07) * tall, b),
                            (x, (low + 0.07) * tall, a),
                        ],
                        color,
                    )
                )
        else:
            polygons.append(([(x, 0.0, a), (x, 0.0, b), (x, tall, b), (x, tall, a)], color))
    canvas.paint(polygons, FENCE)


def make_crowns(rng: np.random.Generator, tile: np.ndarray, light: Light, size: int) -> list[np.ndarray]:
    """Return three leafy blobs for `Canvas.stamp`, uint8 [size, size, 2].

    They are round with ragged edges and holes, and brighter towards the sun.

    Args:
        rng: Chooses the parts of the noise.
        tile: Noise, float32 [t, t], periodic, zero mean and unit variance.
        light: Its sun lights them.
        size: Their side in pixels.
    """
    axis = np.linspace(-1.0, 1.0, size, dtype=np.float32)
    x, y = axis[None, :], axis[:, None]
    crowns = []
    for _ in range(3):
        top, left = rng.integers(0, tile.shape[0], 2)
        rows, columns = np.arange(top, top + size), np.arange(left, left + size)
        noise = tile[np.ix_(rows % len(tile), columns % len(tile))]
        cover = 1.0 - (x * x + y * y) + 0.28 * noise
        side = 0.55 + 0.22 * (light.sun[0] * x - y) * (light.direct[0] + 0.3)
        shading = side + 0.17 * noise + 0.1 * rng.standard_normal((size, size), dtype=np.float32)
        both = np.stack([0.5 + 2.0 * (cover - 0.3), shading], axis=-1)
        crowns.append(np.clip(both * 255, 0, 255).astype(np.uint8))
    return crowns
