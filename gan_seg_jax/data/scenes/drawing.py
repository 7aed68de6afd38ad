"""Draw a street as a driver sees it: a random scene, its picture and its exact labels.

`draw_scene` is a pure function of a random generator and a size. It lays out a street (road, pavements, houses, cars,
people, poles and signs) under some light and weather, paints it from far to near at twice the size, and develops
the picture like a camera would: blur, exposure, vignette, noise. Colours say little by themselves: houses, cars and
clothes come in the colours of road, sky and trees, the horizon and the road's direction vary, and the light changes
everything.
"""

import math

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from gan_seg_jax.data.scenes import layout, plots
from gan_seg_jax.data.scenes.canvas import NEAR, SKY, Camera, Canvas, Light, pick
from gan_seg_jax.data.scenes.objects import make_crowns
from gan_seg_jax.data.scenes.surfaces import noise_tile, shade_ground, shade_sky, shade_walls

GRAIN = np.array(
    [0.0, 0.02, 0.015, 0.02, 0.13, 0.02, 0.06, 0.03, 0.02, 0.05], np.float32
)  # strength of the surface texture, per class


def draw_scene(rng: np.random.Generator, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw a street scene.

    Args:
        rng: All that is random comes from it; the same state gives the same bytes.
        height: Rows, at least 8.
        width: Columns, at least 8.

    Returns:
        (image uint8 [height, width, 3], label uint8 [height, width] with ids into `CLASS_NAMES`).

    Raises:
        ValueError: The size is below 8 x 8.
    """
    if height < 8 or width < 8:
        raise ValueError(f"a scene has at least 8 x 8 pixels, got {height} x {width}")
    camera = _make_camera(rng, 2 * height, 2 * width)
    light, zenith, clouds, lit = _make_light(rng)
    scene = plots.Scene(camera, light, layout.make_street(rng))
    foliage = pick(rng, plots.FOLIAGE, 8.0)
    crowns = make_crowns(rng, noise_tile(), light, int(np.clip(height, 48, 256)))
    for side in (-1, 1):
        layout.add_side(rng, scene, side, lit, crowns, foliage)
    plots.add_horizon(rng, scene, lit, crowns, foliage)
    layout.add_traffic(rng, scene)
    layout.add_people(rng, scene)

    label = np.full((camera.height, camera.width), SKY, np.uint8)
    picture = shade_sky(rng, camera, light, zenith, clouds)
    shade_ground(rng, camera, light, scene.street, picture, label, _cast_shadows(scene))
    backdrop = np.zeros((camera.height, camera.width, 4), np.uint8)
    backdrop[..., :3] = np.moveaxis(np.clip(picture, 0, 255), 0, -1)
    canvas = Canvas(camera, light, backdrop, label)
    for _, paint in sorted(scene.things, key=lambda thing: -thing[0]):
        paint(canvas)
    painted = np.asarray(canvas.picture)
    picture, label = np.moveaxis(painted[..., :3], -1, 0).astype(np.float32, order="C"), np.array(canvas.label)
    shade_walls(camera, light, scene.walls, painted[..., 3], picture)
    _add_grain(rng, picture, label)
    return _develop(rng, picture, height, width), _halve_label(label)


def _make_camera(rng: np.random.Generator, height: int, width: int) -> Camera:
    """Return a camera behind a windscreen: some yaw, pitch and roll, a wide or a long lens."""
    return Camera(
        height=height,
        width=width,
        focal=rng.uniform(0.65, 1.15) * width,
        x0=float(np.clip(rng.normal(0.5, 0.12), 0.2, 0.8)) * width,
        y0=float(np.clip(rng.normal(0.47, 0.07), 0.28, 0.64)) * height,
        eye=rng.uniform(1.2, 2.1),
        roll=rng.normal(0.0, 0.025),
        bend=rng.normal(0.0, 0.0012),
    )


def _make_light(rng: np.random.Generator) -> tuple[Light, np.ndarray, float, float]:
    """Return (light, zenith colour, clouds 0..1, share of lit windows) of a time of day and a weather."""
    kind = rng.choice(("clear", "golden", "overcast", "haze", "dusk"), p=(0.38, 0.17, 0.25, 0.1, 0.1))
    azimuth = rng.uniform(0, 2 * math.pi)
    rise, direct, ambient, haze, zenith, length, clouds, lit = {
        "clear": (
            rng.uniform(0.5, 1.1),
            (0.85, 0.82, 0.76),
            (0.42, 0.45, 0.52),
            (196, 212, 228),
            (88, 138, 205),
            320,
            rng.uniform(0, 0.5),
            0.0,
        ),
        "golden": (
            rng.uniform(0.15, 0.4),
            (1.1, 0.82, 0.52),
            (0.42, 0.42, 0.5),
            (238, 205, 165),
            (120, 145, 190),
            200,
            rng.uniform(0, 0.6),
            0.1,
        ),
        "overcast": (
            1.0,
            (0.12, 0.12, 0.12),
            (0.72, 0.74, 0.78),
            (205, 208, 212),
            (165, 172, 182),
            180,
            rng.uniform(0.7, 1.0),
            0.05,
        ),
        "haze": (
            0.8,
            (0.12, 0.11, 0.1),
            (0.72, 0.73, 0.74),
            (196, 198, 200),
            (186, 190, 195),
            rng.uniform(28, 70),
            0.8,
            0.15,
        ),
        "dusk": (
            0.2,
            (0.12, 0.1, 0.1),
            (0.34, 0.36, 0.44),
            (150, 138, 140),
            (62, 74, 110),
            160,
            rng.uniform(0, 0.8),
            0.5,
        ),
    }[kind]
    flat = math.cos(rise)
    light = Light(
        sun=(flat * math.sin(azimuth), math.sin(rise), flat * math.cos(azimuth)),
        direct=tuple(d * rng.uniform(0.85, 1.15) for d in direct),
        ambient=tuple(a * rng.uniform(0.93, 1.07) for a in ambient),
        haze=tuple(h * rng.uniform(0.93, 1.05) for h in haze),
        haze_length=length * rng.uniform(0.7, 1.4),
    )
    return light, np.array(zenith) * rng.uniform(0.85, 1.15), clouds, lit


def _cast_shadows(scene: plots.Scene) -> np.ndarray:
    """Return the share of the sun that things keep off the ground, float32 [h, w], 0..1."""
    camera, light = scene.camera, scene.light
    picture = Image.new("L", (camera.width, camera.height))
    if min(light.direct) < 0.2:
        return np.asarray(picture, np.float32)
    reach = np.array([-light.sun[0], -light.sun[2]]) / max(light.sun[1], 0.25)
    circle = np.stack([np.cos(np.arange(12) * math.pi / 6), np.sin(np.arange(12) * math.pi / 6)], axis=1)
    flats, thin = [], np.array((0.15, 0.0))
    for left, right, near, far, tall in scene.shadows:
        offset = reach * tall
        if near == far:  # a crown
            middle = np.array([(left + right) / 2, near])
            flats.append(middle + 0.7 * offset + 0.5 * (right - left) * circle)
            flats.append(np.array([middle - thin, middle + thin, middle + 0.7 * offset]))
        else:
            foot = np.array([(left, near), (right, near), (right, far), (left, far)])
            flats += [foot, foot + offset]
            flats += [np.array([foot[i], foot[i - 1], foot[i - 1] + offset, foot[i] + offset]) for i in range(4)]
    points = np.concatenate([np.zeros((0, 2)), *flats])
    pixels = camera.project(np.stack([points[:, 0], np.zeros(len(points)), points[:, 1]], axis=1)).ravel().tolist()
    draw, start = ImageDraw.Draw(picture), 0
    for flat in flats:
        end = start + 2 * len(flat)
        if flat[:, 1].max() > NEAR:
            draw.polygon(pixels[start:end], fill=255)
        start = end
    soft = picture.filter(ImageFilter.BoxBlur(max(1.0, camera.height / 200)))
    return np.asarray(soft, np.float32) * np.float32(0.92 / 255)


def _add_grain(rng: np.random.Generator, picture: np.ndarray, label: np.ndarray) -> None:
    """Roughen surfaces in the picture, float32 [3, h, w], by what they are made of; foliage most."""
    height, width = label.shape
    noise = noise_tile()
    rows, columns = (np.arange(n) + rng.integers(len(noise)) for n in (height, width))
    fine = noise[np.ix_(rows * 37 % len(noise), columns * 37 % len(noise))]
    smooth = noise[np.ix_(rows % len(noise), columns % len(noise))]
    picture *= 1.0 + GRAIN[label] * (fine + 0.7 * smooth)


def _develop(rng: np.random.Generator, picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """Photograph a picture of twice the size, float32 [3, 2 height, 2 width] in 0..255: uint8 [height, width, 3]."""
    picture = np.moveaxis(np.clip(picture, 0, 255).astype(np.uint8), 0, -1)
    small = Image.fromarray(np.ascontiguousarray(picture)).reduce(2)
    if rng.random() < 0.6:
        small = small.filter(ImageFilter.GaussianBlur(rng.uniform(0.2, 0.75) * max(1.0, height / 160)))
    photo = np.moveaxis(np.asarray(small), -1, 0).astype(np.float32, order="C") / 255
    x, y = np.linspace(-1, 1, width, dtype=np.float32), np.linspace(-1, 1, height, dtype=np.float32)
    vignette = 1.0 - rng.uniform(0.0, 0.22) * (np.square(x)[None, :] + np.square(y)[:, None])
    exposure = np.clip((rng.uniform(0.36, 0.52) / (photo.mean() + 1e-3)) ** 0.6, 0.7, 1.8)  # automatic, not quite right
    gain = exposure * np.exp(rng.normal(0.0, 0.03, (3, 1, 1)))
    photo *= vignette * gain.astype(np.float32)
    photo = np.power(np.clip(photo, 0.0, 1.0), np.float32(rng.uniform(0.8, 1.2)))
    read, shot = rng.uniform(0.004, 0.022), rng.uniform(0.0, 0.02)
    photo += np.sqrt(read**2 + shot**2 * photo) * rng.standard_normal(photo.shape, dtype=np.float32)
    return np.ascontiguousarray(np.moveaxis(np.clip(photo * 255.0 + 0.5, 0, 255).astype(np.uint8), 0, -1))


def _halve_label(label: np.ndarray) -> np.ndarray:
    """Halve a label, uint8 [2 h, 2 w]: the most frequent id of each four; in a draw the higher, the thinner thing."""
    four = np.sort(np.stack([label[0::2, 0::2], label[0::2, 1::2], label[1::2, 0::2], label[1::2, 1::2]]), axis=0)
    return np.where(
        (four[2] == four[3]),
        four[3],
        np.where(four[1] == four[2], four[1], np.where(four[0] == four[1], four[0], four[3])),
    )
