"""Who is on a street: cars and people, painted on a `Canvas`."""

import functools
import itertools
import math

import numpy as np

from gan_seg_jax.data.scenes.canvas import CAR, FRONT, PERSON, UP, Canvas, box, disc, pick

CAR_COLORS = np.array(
    [
        (225, 225, 222),
        (28, 28, 32),
        (120, 122, 125),
        (165, 168, 170),
        (82, 84, 88),
        (150, 25, 28),
        (35, 60, 130),
        (52, 88, 50),
        (95, 120, 70),
        (190, 165, 60),
        (110, 75, 55),
        (85, 135, 160),
        (205, 195, 175),
        (70, 30, 60),
    ]
)
CLOTHES = np.array(
    [
        (30, 32, 40),
        (60, 62, 66),
        (150, 150, 148),
        (225, 222, 215),
        (40, 55, 95),
        (140, 35, 40),
        (60, 95, 60),
        (190, 150, 50),
        (105, 80, 60),
        (90, 110, 150),
        (200, 95, 120),
        (85, 85, 45),
    ]
)
SKIN = np.array([(235, 195, 170), (205, 155, 120), (150, 105, 75), (95, 65, 48)])
# Side view: (metres from the rear, metres up), from the rear bumper over the roof to the front. Then the segments that
# are glass, by their first point, and the width.
CAR_PROFILES = (
    (
        ((0, 0.3), (0, 0.85), (0.1, 0.97), (0.8, 1.0), (1.5, 1.42), (2.8, 1.45), (3.5, 1.0), (4.3, 0.85), (4.4, 0.3)),
        (3, 5),
        1.78,
    ),
    (((0, 0.3), (0, 0.88), (0.08, 1.0), (0.45, 1.46), (2.3, 1.5), (3.1, 1.02), (3.9, 0.88), (4.0, 0.3)), (2, 4), 1.74),
    (((0, 0.3), (0, 0.95), (0.06, 1.1), (0.35, 1.68), (2.9, 1.72), (3.6, 1.15), (4.5, 1.0), (4.6, 0.3)), (2, 4), 1.88),
    (((0, 0.35), (0, 1.2), (0.04, 1.22), (0.1, 2.0), (3.9, 2.05), (4.5, 1.3), (5.0, 1.05), (5.1, 0.35)), (2, 4), 1.95),
    (((0, 0.4), (0, 1.3), (0.03, 1.32), (0.1, 2.9), (8.9, 2.95), (9.0, 1.4), (9.05, 0.4)), (2, 4), 2.4),
)


def paint_car(canvas: Canvas, rng: np.random.Generator, x: float, z: float, *, heading: str) -> None:
    """Paint a car, van or bus.

    Args:
        canvas: Where to.
        rng: Chooses model, colour and details.
        x: Its middle (its left end, if "across") in metres.
        z: Its nearest side in metres.
        heading: "away", "towards" (the camera) or "across".
    """
    model = rng.choice(len(CAR_PROFILES), p=(0.34, 0.32, 0.18, 0.11, 0.05))
    profile, glass, width = CAR_PROFILES[model]
    length, body = profile[-1][0], pick(rng, CAR_COLORS)
    flip = heading == "towards" or (heading == "across" and rng.random() < 0.5)
    shade = canvas.light.shade

    def place(along: float, up: float, side: float) -> tuple[float, float, float]:
        along = length - along if flip else along
        return (x + along, up, z + width / 2 + side) if heading == "across" else (x + side, up, z + along)

    near = -width / 2 if heading == "across" or x > 0 else width / 2
    normal = (0.0, 0.2, -0.98) if heading == "across" else (math.copysign(0.98, -x), 0.2, 0.0)
    glare = shade(rng.uniform(30, 95) * np.array([0.9, 1.0, 1.1]), UP, z)
    dark = shade((22, 22, 24), FRONT, z)
    canvas.paint(
        [([place(a, 0.01, s) for a, s in ((0, -1), (0, 1), (length, 1), (length, -1))], shade((20, 20, 22), UP, z))],
        None,
    )
    parts = []
    for i, ((a, low), (b, high)) in enumerate(itertools.pairwise(profile)):
        slope = math.hypot(b - a, high - low) + 1e-6
        back, up = (high - low) / slope * (1 if flip else -1), (b - a) / slope
        turned = (back, up, 0.0) if heading == "across" else (0.0, up, back)
        color = glare if i in glass else shade(body, turned, z)
        corners = [
            place(a, low, -width / 2),
            place(a, low, width / 2),
            place(b, high, width / 2),
            place(b, high, -width / 2),
        ]
        parts.append((-(corners[0][2] + corners[2][2]), (corners, color)))
    polygons = [part for _, part in sorted(parts, key=lambda part: part[0])]
    if heading != "across":
        lamp = (225, 225, 210) if flip else (170, 20, 20)
        low = profile[1][1]
        for side in (-0.38, 0.38):
            polygons.append((box(x + side * width, z, 0.3, low - 0.25, low - 0.08), shade(lamp, FRONT, z)))
        polygons.append((box(x, z, 0.5, low - 0.33, low - 0.2), shade((215, 215, 200), FRONT, z)))
        polygons.append((box(x, z, width, 0.28, 0.42), dark))
    if heading == "across" or abs(x) > width / 2:
        polygons.append(([place(a, up, near) for a, up in profile], shade(body, normal, z)))
        sill = profile[1][1] + 0.08
        cabin = [(a, max(up, sill)) for a, up in profile[glass[0] : glass[1] + 2]]
        middle = sum(a for a, _ in cabin) / len(cabin)
        pane = [(middle + 0.88 * (a - middle), sill + 0.85 * (up - sill)) for a, up in cabin]
        pillar = [
            (middle - 0.07, sill),
            (middle + 0.07, sill),
            (middle + 0.07, profile[glass[1]][1]),
            (middle - 0.07, profile[glass[1]][1]),
        ]
        for outline, color in ((pane, glare), (pillar, shade(body, normal, z))):
            polygons.append(([place(a, up, near) for a, up in outline], color))
        for hub in (0.19, 0.8):
            for radius, color in ((0.34, dark), (0.19, shade((135, 135, 138), normal, z))):
                rim = ((2 * math.pi * k / 10) for k in range(10))
                polygons.append(
                    (
                        [place(hub * length + radius * math.cos(t), 0.34 + radius * math.sin(t), near) for t in rim],
                        color,
                    )
                )
    canvas.paint(polygons, CAR)


def paint_person(canvas: Canvas, rng: np.random.Generator, x: float, z: float) -> None:
    """Paint a pedestrian who stands or walks at (x, z) metres."""
    tall, stride, turn = rng.uniform(1.45, 1.92), rng.uniform(0.0, 0.2), rng.uniform(0.8, 1.1)
    coat, legs, skin = pick(rng, CLOTHES), pick(rng, CLOTHES), pick(rng, SKIN, 6)
    shade = functools.partial(canvas.light.shade, normal=FRONT, z=z)
    hip, neck, wide = 0.48 * tall, 0.84 * tall, 0.21 * turn
    polygons = []
    for side, tone in ((-1, 0.8), (1, 1.0)):
        foot = side * (0.07 + stride)
        outline = [(x + side * 0.1 - 0.08, hip, z), (x + side * 0.1 + 0.08, hip, z)]
        outline += [(x + foot + 0.07, 0.0, z), (x + foot - 0.07, 0.0, z)]
        polygons.append((outline, shade(tone * legs)))
    if rng.random() < 0.3:  # a skirt or a long coat
        polygons.append(
            (
                [
                    (x - 0.2, hip + 0.1, z),
                    (x + 0.2, hip + 0.1, z),
                    (x + 0.27, 0.28 * tall, z),
                    (x - 0.27, 0.28 * tall, z),
                ],
                shade(coat),
            )
        )
    torso = [
        (x - wide, neck - 0.05, z),
        (x + wide, neck - 0.05, z),
        (x + 0.85 * wide, hip, z),
        (x - 0.85 * wide, hip, z),
    ]
    polygons.append((torso, shade(coat)))
    for side in (-1, 1):
        swing = side * (wide + rng.uniform(0.0, 0.2))
        shoulder, hand = x + side * wide, hip - 0.02
        arm = [
            (shoulder - 0.05, neck - 0.05, z),
            (shoulder + 0.05, neck - 0.05, z),
            (x + swing + 0.05, hand, z),
            (x + swing - 0.05, hand, z),
        ]
        polygons.append((arm, shade(0.85 * coat)))
    if rng.random() < 0.35:
        polygons.append(
            (box(x + rng.choice((-1, 1)) * 0.28, z, 0.26, hip - 0.25, hip + 0.1), shade(pick(rng, CLOTHES)))
        )
    head = neck + 0.08 * tall
    polygons.append((disc(x, head, z, 0.115, 8), shade(skin)))
    polygons.append((disc(x, head + 0.05, z, 0.09, 8), shade(pick(rng, CLOTHES) * 0.6)))
    canvas.paint(polygons, PERSON)
