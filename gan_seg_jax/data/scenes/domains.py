"""Other domains of a drawn scene: the same street at another time or through another camera, for adaptation.

A domain is a pure function of (image, label, generator) that changes colours and leaves the geometry as it is, so the
label stays exact. Sizes are shares of the image's height: a domain is the same at every resolution.
"""

from collections.abc import Callable

import numpy as np

from gan_seg_jax.data.scenes.canvas import BUILDING, CAR, FENCE, PAVEMENT, PERSON, POLE, ROAD, SKY

Domain = Callable[[np.ndarray, np.ndarray, np.random.Generator], np.ndarray]

_GREY = np.array([0.299, 0.587, 0.114], np.float32)
_GAMMA = 2.2
_WARM, _WHITE = np.array([1.0, 0.72, 0.38], np.float32), np.array([1.0, 0.96, 0.86], np.float32)  # of lamps


def change_domain(domain: str, image: np.ndarray, label: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a scene as it looks at another time or through another camera.

    Args:
        domain: A name in `DOMAINS`; "day" changes nothing and draws nothing.
        image: uint8 [h, w, 3], as drawn.
        label: uint8 [h, w], its classes.
        rng: All that is random comes from it.

    Returns:
        uint8 [h, w, 3].

    Raises:
        KeyError: There is no such domain.
    """
    change = DOMAINS[domain]
    if change is None:
        return image
    picture = change(image.astype(np.float32) / 255, label, rng)
    return np.round(np.clip(picture, 0, 1) * 255).astype(np.uint8)


def night(image: np.ndarray, label: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the scene at night: little bluish light, street lamps, head lights, and the noise of a sensor at its end.

    Args:
        image: float32 [h, w, 3], 0..1.
        label: uint8 [h, w].
        rng: The generator.

    Returns:
        float32 [h, w, 3], roughly 0..1.
    """
    h, w = label.shape
    linear = image**_GAMMA
    moon = np.array([0.55, 0.75, 1.15], np.float32) * rng.uniform(0.06, 0.14)
    light = np.ones((h, w, 3), np.float32) * moon
    y, x = np.mgrid[:h, :w].astype(np.float32) / h
    # The own head lights: a cone on the road, brightest just before the car.
    middle, reach = w / h / 2 + rng.normal(0, 0.05), rng.uniform(0.25, 0.4)
    cone = np.exp(-(((x - middle) / (0.15 + 0.5 * np.maximum(y - 0.4, 0))) ** 2)) * np.exp(-((1 - y) / reach))
    light += (0.5 * cone * np.isin(label, (ROAD, PAVEMENT, CAR, PERSON, FENCE)))[..., None] * _WHITE
    glow = np.zeros((h, w, 3), np.float32)
    for row, column in _lamps(label, rng):
        squared = (x - column / h) ** 2 + (y - row / h) ** 2
        color, strength = (_WARM if rng.random() < 0.7 else _WHITE), rng.uniform(0.3, 0.7)
        light += (strength * np.exp(-squared / (2 * 0.16**2)))[..., None] * color
        glow += (np.exp(-squared / (2 * 0.012**2)) + 0.12 * np.exp(-squared / (2 * 0.06**2)))[..., None] * color
    for row, column in _pick(label == CAR, rng, most=4):
        red = row < 0.6 * h and rng.random() < 0.5
        color = np.array([0.9, 0.1, 0.08], np.float32) if red else _WHITE
        squared = (x - column / h) ** 2 + (y - row / h) ** 2
        glow += (0.8 * np.exp(-squared / (2 * 0.011**2)))[..., None] * color
    light[label == SKY] *= 0.35
    glow += 0.35 * _windows(image, label, rng)[..., None] * _WARM
    shown = (linear * light + 0.8 * glow).clip(0, None)
    # Shot noise grows with the light, read noise does not.
    noise = rng.normal(0, 1, (h, w, 3)).astype(np.float32) * np.sqrt(4e-4 * shown + 1.5e-5)
    return _blur((shown + noise).clip(0, 1) ** (1 / _GAMMA), 0.004 * h)


def rain(image: np.ndarray, label: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the scene in rain: less colour and contrast, haze towards the horizon, a wet road that mirrors, streaks.

    Args:
        image: float32 [h, w, 3], 0..1.
        label: uint8 [h, w].
        rng: The generator.

    Returns:
        float32 [h, w, 3], roughly 0..1.
    """
    h, w = label.shape
    grey = (image @ _GREY)[..., None]
    picture = grey + rng.uniform(0.25, 0.5) * (image - grey)
    picture = rng.uniform(0.62, 0.78) * picture * np.array([0.95, 1.0, 1.06], np.float32)
    road = (label == ROAD) | (label == PAVEMENT)
    rows = np.flatnonzero(road.any(axis=1))
    horizon = int(rows[0]) if len(rows) else h // 2
    # A wet road shows what stands behind it, upside down and blurred.
    mirror = _blur(picture[np.clip(2 * horizon - np.arange(h), 0, h - 1)], 0.03 * h)
    wet = (rng.uniform(0.25, 0.5) * road)[..., None].astype(np.float32)
    picture = picture * (1 - wet) + wet * (0.2 * picture + 0.8 * mirror)
    away = np.abs(np.arange(h, dtype=np.float32) - horizon)[:, None, None] / h
    haze = rng.uniform(0.45, 0.7) * np.exp(-away / rng.uniform(0.15, 0.3))
    haze = np.where((label == SKY)[..., None], np.maximum(haze, 0.75), haze)
    air = np.array([0.56, 0.59, 0.62], np.float32) * rng.uniform(0.85, 1.1)
    picture = picture * (1 - haze) + air * haze
    streaks = _streaks((h, w), rng)[..., None]
    picture = picture + streaks * (0.85 - picture)
    return _blur(picture, 0.005 * h) + rng.normal(0, 0.012, (h, w, 3)).astype(np.float32)


def camera(image: np.ndarray, label: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the scene through another camera: colour matrix, gamma, vignette and a soft lens.

    The camera is one, so most of it is fixed; exposure and white balance move a little from scene to scene.

    Args:
        image: float32 [h, w, 3], 0..1.
        label: uint8 [h, w]; not used.
        rng: The generator.

    Returns:
        float32 [h, w, 3], roughly 0..1.
    """
    h, w = label.shape
    matrix = np.array([[0.55, 0.40, 0.05], [0.10, 0.62, 0.28], [0.30, -0.05, 0.60]], np.float32)
    balance = np.array([1.25, 0.95, 0.75], np.float32) * rng.normal(1.0, 0.03, 3).astype(np.float32)
    picture = _blur((image @ matrix.T).clip(0, 1), 0.009 * h)
    picture = (picture * balance * rng.uniform(0.9, 1.15)).clip(0, 1) ** 0.6
    picture = 0.12 + 0.8 * picture  # a lens that lets stray light in
    y, x = np.mgrid[:h, :w].astype(np.float32)
    corner = ((y - (h - 1) / 2) ** 2 + (x - (w - 1) / 2) ** 2) / ((h / 2) ** 2 + (w / 2) ** 2)
    return picture * (1 - 0.5 * corner)[..., None] + rng.normal(0, 0.015, (h, w, 3)).astype(np.float32)


DOMAINS: dict[str, Domain | None] = {"day": None, "night": night, "rain": rain, "camera": camera}


def _lamps(label: np.ndarray, rng: np.random.Generator) -> list[tuple[int, int]]:
    """Return (row, column) of street lamps: tops of poles, and some over the pavement's end of the scene."""
    h, w = label.shape
    found = np.argmax(label == POLE, axis=0)
    columns = np.flatnonzero((label == POLE).any(axis=0))
    tops = [(int(found[column]), int(column)) for column in columns if found[column] < 0.5 * h]
    chosen = [tops[i] for i in rng.permutation(len(tops))[: rng.integers(1, 5)]] if tops else []
    while len(chosen) < 2:
        chosen.append((int(rng.uniform(0.1, 0.35) * h), int(rng.integers(w))))
    return chosen


def _pick(where: np.ndarray, rng: np.random.Generator, *, most: int) -> list[tuple[int, int]]:
    """Return up to `most` pixels (row, column) of a mask."""
    rows, columns = np.nonzero(where)
    chosen = rng.integers(len(rows), size=int(rng.integers(most + 1))) if len(rows) else []
    return [(int(rows[i]), int(columns[i])) for i in chosen]


def _windows(image: np.ndarray, label: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return where a light is on behind a house's wall, float32 [h, w]: cells of a grid, drawn one by one."""
    h, w = label.shape
    cell = max(2, round(h / 24))
    lit = rng.random((h // cell + 1, w // cell + 1)) < rng.uniform(0.03, 0.12)
    lit = np.kron(lit, np.ones((cell, cell), bool))[:h, :w]
    dark = image @ _GREY < 0.45  # windows are darker than the walls around them
    return (lit & dark & (label == BUILDING)).astype(np.float32)


def _streaks(size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Return how much of each pixel is covered by falling drops, float32 [h, w], 0..1."""
    h, w = size
    length, slant = max(3, round(rng.uniform(0.06, 0.12) * h)), rng.uniform(-0.35, 0.35)
    drops = (rng.random((h + length, w + length)) < rng.uniform(0.006, 0.014)).astype(np.float32)
    drops *= rng.uniform(0.25, 0.8, drops.shape).astype(np.float32)
    total = np.zeros(size, np.float32)
    for step in range(length):
        side = round(slant * step) + length // 2
        total = np.maximum(total, drops[step : step + h, side : side + w] * (1 - step / length))
    return total


def _blur(image: np.ndarray, sigma: float) -> np.ndarray:
    """Return the image smoothed by a Gaussian of `sigma` pixels, borders repeated."""
    radius = max(1, int(3 * sigma))
    taps = np.exp(-0.5 * (np.arange(-radius, radius + 1) / max(sigma, 1e-6)) ** 2)
    taps = (taps / taps.sum()).astype(np.float32)
    for axis in (0, 1):
        widths = [(radius, radius) if number == axis else (0, 0) for number in range(image.ndim)]
        padded, count = np.pad(image, widths, mode="edge"), image.shape[axis]
        parts = (tap * np.take(padded, range(i, i + count), axis=axis) for i, tap in enumerate(taps))
        image = sum(parts)
    return image
