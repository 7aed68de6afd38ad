"""Surfaces of a street scene that are shaded pixel by pixel: sky, ground and the walls of buildings.

Each pixel's ray is cut with the surface, so that slabs, lane markings and windows lie in perspective and are sharp at
any size.
"""

import dataclasses
import functools

import numpy as np

from gan_seg_jax.data.scenes.canvas import PAVEMENT, ROAD, TREE, Camera, Light

FAR = 300.0  # metres; ground further away is drawn as the horizon


@functools.cache
def noise_tile(size: int = 512) -> np.ndarray:
    """Return noise with a 1/f spectrum, float32 [size, size], periodic, zero mean, unit variance; always the same."""
    rng = np.random.default_rng(20240229)
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None, :])
    frequency[0, 0] = np.inf
    spectrum = np.fft.rfft2(rng.standard_normal((size, size))) / np.maximum(frequency, 4.0 / size)
    noise = np.fft.irfft2(spectrum, s=(size, size))
    return ((noise - noise.mean()) / noise.std()).astype(np.float32)


def sample(tile: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the nearest values of a periodic tile at (x, y) in its own pixels."""
    return tile[y.astype(np.int32) & (tile.shape[0] - 1), x.astype(np.int32) & (tile.shape[1] - 1)]


def _planes(color) -> np.ndarray:
    """Return a colour as float32 [3, 1, 1], for planes [3, h, w]: NumPy is slow along a last axis of 3."""
    return np.asarray(color, np.float32)[:, None, None]


@dataclasses.dataclass(frozen=True)
class Street:
    """The ground plan of a street in metres, x from the camera's path, z forward.

    Attributes:
        left, right: Edges of the road.
        lanes: x of the lines between lanes.
        pavements: Widths of the pavements, left and right.
        verges: Widths of the strips of grass between road and pavement, left and right.
        grass: Whether ground beyond the pavements is grass, left and right.
        crossing: (near, far) of a street that crosses, or None.
        zebra: Distance of a zebra crossing, or None.
        road_color, pavement_color, grass_color: RGB.
        slab: Side of the pavement's slabs, 0 for asphalt.
    """

    left: float
    right: float
    lanes: tuple[float, ...]
    pavements: tuple[float, float]
    verges: tuple[float, float]
    grass: tuple[bool, bool]
    crossing: tuple[float, float] | None
    zebra: float | None
    road_color: np.ndarray
    pavement_color: np.ndarray
    grass_color: np.ndarray
    slab: float


def shade_sky(rng: np.random.Generator, camera: Camera, light: Light, zenith: np.ndarray, clouds: float) -> np.ndarray:
    """Return the sky, float32 [3, h, w] in 0..255: a gradient from zenith to haze, with clouds (0: none, 1: closed)."""
    right, down = (slope[::2, ::2] for slope in camera.rays)  # half the resolution: nothing up there is sharp
    up = np.clip(-down, 0.0, 2.0)
    blend = 1.0 - np.exp(-2.2 * up)
    sky = _planes(light.haze) * (1 - blend) + _planes(zenith) * blend
    tile, offset = noise_tile(), rng.uniform(0, 512, 2).tolist()
    flat = 26.0 / (up + 0.16)  # a layer of clouds overhead, flattened towards the horizon
    cover = sample(tile, right * flat * 2.0 + offset[0] + 4096, flat + offset[1])
    cover = np.clip(cover * 0.45 + 1.6 * clouds - 0.75, 0.0, 1.0) * min(1.0, 0.4 + clouds)
    white = _planes(np.minimum(255.0, 0.55 * np.asarray(light.haze) + 110.0 * np.add(light.direct, light.ambient)))
    return (sky * (1 - cover) + white * cover).repeat(2, axis=1).repeat(2, axis=2)


def shade_ground(
    rng: np.random.Generator,
    camera: Camera,
    light: Light,
    street: Street,
    picture: np.ndarray,
    label: np.ndarray,
    shadow: np.ndarray,
) -> None:
    """Shade the ground into a picture that holds the sky.

    Args:
        rng: Chooses wear, patches and stains.
        camera: Where from.
        light: Under what light.
        street: What.
        picture: float32 [3, h, w], 0..255; changed.
        label: uint8 [h, w]; changed.
        shadow: float32 [h, w], share of the direct light that is kept out, 0..1.
    """
    right, down = camera.rays
    where = np.nonzero(down > camera.eye / FAR)
    z = camera.eye / down[where]
    x = right[where] * z - np.float32(camera.bend) * z * z
    footprint = z / camera.focal  # metres a pixel covers, across the line of sight
    near = np.clip(0.35 / (footprint * np.sqrt(z)), 0.0, 1.0)  # how much of the finest texture is resolved
    grain = sample(noise_tile(), x * 41 + 8192, z * 41)
    coarse = sample(noise_tile(), x * 3.1 + 8192, z * 1.3 + rng.uniform(0, 512))
    road = (x > street.left) & (x < street.right)
    if street.crossing is not None:
        road |= (z > street.crossing[0]) & (z < street.crossing[1])
    left = x < street.left
    beyond = np.where(left, street.left - x, x - street.right)
    verge, pavement = (np.where(left, *np.float32(widths)) for widths in (street.verges, street.pavements))
    paved = (beyond >= verge) & (beyond < verge + pavement)
    grass = ~road & ~paved & (np.where(left, *street.grass) | (beyond < verge))
    kind = np.where(road, 0, np.where(grass, 1, np.where(beyond < 0.16, 2, np.where(paved, 3, 4))))
    tones = [
        street.road_color,
        street.grass_color,
        0.5 * street.pavement_color + 75.0,
        street.pavement_color,
        0.92 * street.pavement_color,
    ]
    tone = np.asarray(tones, np.float32).T.take(kind, axis=1)
    factor = 1.0 + 0.035 * coarse + np.where(grass, *np.float32((0.22, 0.09))) * grain * near
    factor *= _road_wear(rng, street, x, z, footprint) * road + ~road
    if street.slab:
        gap = np.maximum(0.03, 0.5 * footprint)
        joint = (np.mod(x, street.slab) < gap) | (np.mod(z, street.slab) < gap * np.maximum(1.0, z / 6.0))
        slabs = sample(noise_tile(), np.floor(x / street.slab) * 37 + 8192, np.floor(z / street.slab) * 53)
        factor = np.where(~road & ~grass, factor * (1.0 - 0.3 * joint * near) * (1.0 + 0.06 * slabs * near), factor)
    paint = _road_paint(street, x, z, footprint) * road * np.clip(0.85 + 0.25 * coarse, 0.3, 1.0)
    tone += paint * (np.float32(222.0) - tone)
    sun = light.sun[1] * (1 - shadow[where])
    keep = np.exp(-z / light.haze_length)
    factor *= keep
    for plane, t, ambient, direct, haze in zip(picture, tone, light.ambient, light.direct, light.haze, strict=True):
        plane[where] = t * factor * (ambient + direct * sun) + haze * (1 - keep)
    label[where] = np.array([ROAD, TREE, PAVEMENT, PAVEMENT, PAVEMENT], np.uint8)[kind]


def _road_wear(
    rng: np.random.Generator, street: Street, x: np.ndarray, z: np.ndarray, footprint: np.ndarray
) -> np.ndarray:
    """Return the factors, float [n], of tyre tracks, patches, cracks and manholes on the road."""
    factor = 1.0 - 0.08 * np.exp(-np.square((np.abs(x) - 0.8) / 0.3))
    for _ in range(int(rng.integers(1, 6))):
        middle, start = rng.uniform(street.left, street.right), rng.uniform(2.0, 25.0)
        wide, long = rng.uniform(0.3, 2.0), rng.uniform(0.5, 8.0)
        inside = (np.abs(x - middle) < wide) & (z > start) & (z < start + long)
        factor = np.where(inside, factor * rng.uniform(0.72, 1.22), factor)
    for _ in range(int(rng.integers(0, 3))):
        middle, start = rng.uniform(street.left, street.right), rng.uniform(4.0, 18.0)
        factor = np.where(np.square(x - middle) + np.square(z - start) < 0.12, 0.6 * factor, factor)
    edge = np.minimum(x - street.left, street.right - x)
    return np.where(edge < np.maximum(0.25, footprint), 0.88 * factor, factor)


def _road_paint(street: Street, x: np.ndarray, z: np.ndarray, footprint: np.ndarray) -> np.ndarray:
    """Return how much of each road pixel is white paint, float [n] in 0..1; faint where a line is below a pixel."""
    half = np.maximum(0.07, 0.5 * footprint)
    paint = np.zeros_like(x)
    for lane in street.lanes:
        paint = np.maximum(paint, (np.abs(x - lane) < half) & (np.mod(z, 7.0) < 3.5))
    for edge in (street.left + 0.3, street.right - 0.3) if len(street.lanes) > 1 else ():
        paint = np.maximum(paint, np.abs(x - edge) < half)
    if street.crossing is not None:
        paint = paint * ((z < street.crossing[0]) | (z > street.crossing[1]))
    if street.zebra is not None:
        across = (z > street.zebra) & (z < street.zebra + 3.0) & (x > street.left) & (x < street.right)
        paint = np.where(across, np.float32(0.9) * (np.mod(x, 1.0) < 0.5), paint)
    return paint * np.minimum(1.0, 0.07 / half)


@dataclasses.dataclass(frozen=True)
class Wall:
    """An upright wall with windows, in metres; it may stand along the street or across it.

    Attributes:
        start, end: (x, z) of its two feet, x already with the bend of the road.
        height: Its top.
        normal: (x, z) of its outward normal.
        color, glass, trim: RGB of its face, its panes and of frames, cornices and shop signs.
        storey, pitch: Distances of storeys and of windows.
        window: (width, height) of a window as shares of pitch and storey; width 0 for a blank wall.
        shop: Height of a shop front, 0 for none.
        lit: Share of windows with a light behind them.
        brick: Strength of the texture.
    """

    start: tuple[float, float]
    end: tuple[float, float]
    height: float
    normal: tuple[float, float]
    color: np.ndarray
    glass: np.ndarray
    trim: np.ndarray
    storey: float
    pitch: float
    window: tuple[float, float]
    shop: float
    lit: float
    brick: float


def _wall_table(walls: list[Wall], light: Light) -> np.ndarray:
    """Return what `shade_walls` needs of each wall, float32 [walls + 1, 28]; row 0 is unused."""
    rows = [np.zeros(28)]
    for i, wall in enumerate(walls):
        along = np.subtract(wall.end, wall.start)
        along = along / np.hypot(*along)
        facing = max(0.0, wall.normal[0] * light.sun[0] + wall.normal[1] * light.sun[2])
        lit = np.asarray(light.ambient) * 0.95 + np.asarray(light.direct) * facing
        offset = wall.normal[0] * wall.start[0] + wall.normal[1] * wall.start[1]
        numbers = (
            *wall.normal,
            offset,
            *wall.start,
            *along,
            wall.height,
            wall.storey,
            wall.pitch,
            *wall.window,
            wall.shop,
            wall.lit,
        )
        rows.append(np.concatenate([numbers, [wall.brick, 61.0 * i], wall.color, wall.glass, wall.trim, lit]))
    return np.asarray(rows, np.float32)


def shade_walls(camera: Camera, light: Light, walls: list[Wall], number: np.ndarray, picture: np.ndarray) -> None:
    """Shade the pixels that show walls.

    Args:
        camera: Where from.
        light: Under what light.
        walls: Wall i has number i + 1.
        number: uint8 [h, w], number of the wall seen, 0 for none.
        picture: float32 [3, h, w], 0..255; changed.
    """
    where = np.nonzero(number)
    right, down = (a[where] for a in camera.rays)
    table = _wall_table(walls, light).T.take(number[where], axis=1)
    nx, nz, offset, x0, z0, ax, az, height, storey, pitch, wide, high, shop, lit, brick, seed = table[:16]
    color, glass, trim = table[16:19], table[19:22], table[22:25]
    z = np.clip(offset / (nx * right + nz), 0.5, FAR)
    y = camera.eye - down * z
    along = (right * z - x0) * ax + (z - z0) * az
    resolved = np.clip(2.0 * pitch * np.abs(nx * right + nz) * camera.focal / (6.0 * z), 0.15, 1.0)
    column, floor = np.floor(along / pitch), np.floor((y - shop) / storey)
    dx, dy = np.abs(along / pitch - column - 0.5), np.abs((y - shop) / storey - floor - 0.52)
    upper = (y > shop + 0.1) & (y < height - 0.35) & (wide > 0)
    window, frame = upper & (dx < wide / 2) & (dy < high / 2), upper & (dx < wide / 2 + 0.07) & (dy < high / 2 + 0.06)
    chance = sample(noise_tile(), column * 97 + seed, floor * 41 + seed + 1024)
    level = (shop > 0) & (y < shop)
    pane = level & (y > 0.5) & (y < shop - 0.8) & (np.mod(along, 2.4) > 0.18)
    board = level & (y > shop - 0.75)
    texture = sample(noise_tile(), along * 23 + seed + 8192, y * 23 + 8192)
    coarse = sample(noise_tile(), along * 1.7 + seed + 8192, y * 1.7 + 512)
    face = color * (1.0 + brick * texture * resolved + 0.05 * coarse - 0.06 * (np.mod(y, storey) < 0.2))
    face += 0.7 * resolved * (frame | (y > height - 0.3)) * (trim - face)
    face = np.where(board, 0.8 * trim[[2, 0, 1]] + 20.0, face)
    shine = 0.85 + 0.3 * np.tanh(chance) + 0.25 * dy
    face += np.where(pane, np.float32(0.9), resolved * window) * (glass * shine - face)
    face *= table[25:28]
    lamp = resolved * ((window | pane) & (np.abs(chance) > 2.2 - 2.2 * lit) & (lit > 0))
    keep = np.exp(-z / light.haze_length)
    for plane, f, glow, haze in zip(picture, face, (235.0, 190.0, 120.0), light.haze, strict=True):
        plane[where] = (f + lamp * (glow - f)) * keep + haze * (1 - keep)
