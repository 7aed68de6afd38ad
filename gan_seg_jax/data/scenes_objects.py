"""What stands in a street scene: each `paint_*` function paints one kind of thing on a `Canvas`, from far to near within the thing."""

import functools
import math

import numpy as np

from gan_seg_jax.data.scenes_canvas import CAR, FENCE, FRONT, PERSON, POLE, SIGN, TREE, UP, Canvas, Light, pick

CAR_COLORS = np.array(
    [(225, 225, 222), (28, 28, 32), (120, 122, 125), (165, 168, 170), (82, 84, 88), (150, 25, 28), (35, 60, 130)]
    + [(52, 88, 50), (95, 120, 70), (190, 165, 60), (110, 75, 55), (85, 135, 160), (205, 195, 175), (70, 30, 60)]
)
CLOTHES = np.array(
    [(30, 32, 40), (60, 62, 66), (150, 150, 148), (225, 222, 215), (40, 55, 95), (140, 35, 40), (60, 95, 60)]
    + [(190, 150, 50), (105, 80, 60), (90, 110, 150), (200, 95, 120), (85, 85, 45)]
)
SKIN = np.array([(235, 195, 170), (205, 155, 120), (150, 105, 75), (95, 65, 48)])
# Side views: (metres from the rear, metres up), from the rear bumper over the roof to the front; `glass` names segments by their first point.
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


def box(x: float, z: float, width: float, bottom: float, top: float) -> list[tuple[float, float, float]]:
    """Return the corners of an upright rectangle that faces the camera, centred on x at distance z (metres)."""
    left, right = x - width / 2, x + width / 2
    return [(left, bottom, z), (right, bottom, z), (right, top, z), (left, top, z)]


def disc(
    x: float, y: float, z: float, radius: float, corners: int = 12, turn: float = 0.0
) -> list[tuple[float, float, float]]:
    """Return the corners of a regular polygon that faces the camera (metres, radians)."""
    angles = (turn + 2 * math.pi * i / corners for i in range(corners))
    return [(x + radius * math.sin(a), y + radius * math.cos(a), z) for a in angles]


def paint_car(canvas: Canvas, rng: np.random.Generator, x: float, z: float, *, heading: str) -> None:
    """Paint a car, van or bus.

    Args:
        canvas: Where to.
        rng: Chooses model, colour and details.
        x, z: Its middle across and its nearest end, in metres.
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
    for i, ((a, low), (b, high)) in enumerate(zip(profile[:-1], profile[1:], strict=True)):
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
    for _ in range(int(rng.integers(2, 5)) if size * scale > 12 else 1):
        spread = 0.14 * size * narrow
        center = (x + rng.normal(0, spread), trunk + (size - trunk) * rng.uniform(0.35, 0.68), z)
        radius = ((size - trunk) * rng.uniform(0.3, 0.5) * narrow, (size - trunk) * rng.uniform(0.3, 0.48))
        color = canvas.light.shade(np.clip(foliage * rng.uniform(0.8, 1.3), 0, 255), UP, 0.0)
        canvas.stamp(center, radius, crowns[rng.integers(len(crowns))], color, TREE)


def paint_pole(canvas: Canvas, rng: np.random.Generator, x: float, z: float, *, kind: str) -> None:
    """Paint a pole with what it carries.

    Args:
        canvas: Where to.
        rng: Chooses sizes and colours.
        x, z: Its foot in metres; it leans over the road, towards x = 0.
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
    """Paint a fence along the street at x from `near` to `far` metres: boards, a wall-like hoarding, or railings one sees through.

    Railings are labelled as a whole, as annotators do, not bar by bar.
    """
    tall, open_, light = rng.uniform(0.8, 1.6), rng.random() < 0.6, canvas.light
    tone = pick(
        rng, np.array([(125, 95, 70), (150, 152, 155), (55, 58, 60), (60, 85, 62), (215, 212, 205), (95, 70, 55)])
    )
    normal = (math.copysign(0.98, -x), 0.2, 0.0)
    canvas.paint([([(x, 0.0, far), (x, 0.0, near), (x, tall, near), (x, tall, far)], None)], FENCE)
    polygons = []
    steps = np.linspace(far, near, max(2, min(40, int((far - near) / (0.5 if open_ else 1.0)) + 1))).tolist()
    for a, b in zip(steps[:-1], steps[1:], strict=True):
        color = light.shade(np.clip(tone * rng.uniform(0.85, 1.12), 0, 255), normal, b)
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
    """Return three leafy blobs for `Canvas.stamp`, uint8 [size, size, 2]: round with ragged edges and holes, brighter towards the sun.

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
