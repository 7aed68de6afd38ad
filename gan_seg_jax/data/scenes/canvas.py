"""Camera, light and canvas of a street scene, and the classes.

World coordinates are metres: x to the right of the camera's path, y up from the road, z forward. `Camera` projects them
to pixels, `Light` turns a surface's own colour and normal into what is seen at a distance, `Canvas` holds the picture
and its labels and paints both at once, so that a label is exact by construction.
"""

import dataclasses
import functools
import math

import numpy as np
from PIL import Image, ImageDraw

CLASS_NAMES = ("sky", "building", "road", "pavement", "tree", "car", "person", "pole", "sign", "fence")
CLASS_COLORS = (  # where CamVid has the class, its colour there
    (128, 128, 128),
    (128, 0, 0),
    (128, 64, 128),
    (60, 40, 222),
    (128, 128, 0),
    (64, 0, 128),
    (64, 64, 0),
    (192, 192, 128),
    (192, 128, 128),
    (64, 64, 128),
)
SKY, BUILDING, ROAD, PAVEMENT, TREE, CAR, PERSON, POLE, SIGN, FENCE = range(10)
_RAMP = np.arange(256)[:, None] / 255
NEAR = 0.6  # metres; nothing is projected from nearer than this
FRONT, UP = (0.0, 0.35, -0.94), (0.0, 1.0, 0.0)  # normals: a standing thing seen from the car, a level surface


@dataclasses.dataclass(frozen=True)
class Camera:
    """A pinhole camera over a road that may bend.

    Attributes:
        height, width: Size of the picture in pixels.
        focal: Focal length in pixels.
        x0, y0: Vanishing point in pixels.
        eye: Height of the camera above the road in metres.
        roll: Rotation of the picture about the vanishing point in radians.
        bend: The road's middle is at x = bend z^2.
    """

    height: int
    width: int
    focal: float
    x0: float
    y0: float
    eye: float
    roll: float
    bend: float

    def project(self, points: np.ndarray) -> np.ndarray:
        """Return the pixels (x, y), float [n, 2], of world points [n, 3]; x counts from the road's middle line."""
        z = np.maximum(points[:, 2], NEAR)
        u = self.focal * (points[:, 0] / z + self.bend * z)
        v = self.focal * (self.eye - points[:, 1]) / z
        cos, sin = math.cos(self.roll), math.sin(self.roll)
        pixels = np.empty((len(points), 2))
        pixels[:, 0] = self.x0 + cos * u - sin * v
        pixels[:, 1] = self.y0 + sin * u + cos * v
        return pixels

    def pixel(self, x: float, y: float, z: float) -> tuple[float, float]:
        """Return the pixel (x, y) of one world point."""
        z = max(z, NEAR)
        u, v = self.focal * (x / z + self.bend * z), self.focal * (self.eye - y) / z
        cos, sin = math.cos(self.roll), math.sin(self.roll)
        return self.x0 + cos * u - sin * v, self.y0 + sin * u + cos * v

    @functools.cached_property
    def rays(self) -> tuple[np.ndarray, np.ndarray]:
        """(right, down), float32 [height, width]: each pixel's slopes x/z and (eye - y)/z."""
        x = np.arange(self.width, dtype=np.float32)[None, :] + 0.5 - self.x0
        y = np.arange(self.height, dtype=np.float32)[:, None] + 0.5 - self.y0
        cos, sin = math.cos(self.roll) / self.focal, math.sin(self.roll) / self.focal
        return (cos * x + sin * y).astype(np.float32), (cos * y - sin * x).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class Light:
    """Sun, sky light and haze.

    Attributes:
        sun: Unit vector to the sun.
        direct, ambient: RGB factors of sun and sky light; a level surface in the open shows direct sun_y + ambient
            times its own colour.
        haze: RGB (0..255) of the air at a distance.
        haze_length: Metres over which all but 1/e of a colour turns into haze.
    """

    sun: tuple[float, float, float]
    direct: tuple[float, float, float]
    ambient: tuple[float, float, float]
    haze: tuple[float, float, float]
    haze_length: float

    def shade(self, color, normal, z: float) -> tuple[int, int, int]:
        """Return what is seen, RGB 0..255, of a surface with this colour and unit normal at z metres."""
        color, haze, ambient, direct = (
            np.asarray(color).tolist(),
            self.haze,
            self.ambient,
            self.direct,
        )  # floats: NumPy's scalars are slow
        facing = max(0.0, normal[0] * self.sun[0] + normal[1] * self.sun[1] + normal[2] * self.sun[2])
        keep = math.exp(-max(z, 0.0) / self.haze_length)
        return tuple(
            [
                int(min(255.0, color[i] * (ambient[i] + direct[i] * facing) * keep + haze[i] * (1.0 - keep)))
                for i in range(3)
            ]
        )


class Canvas:
    """The picture and its labels, painted together from far to near.

    The picture's fourth channel numbers the wall that is seen there (0: none); walls get their faces at the end.

    Args:
        camera: Where from.
        light: Under what light.
        picture: uint8 [h, w, 4], sky and ground.
        label: uint8 [h, w], their classes.
    """

    def __init__(self, camera: Camera, light: Light, picture: np.ndarray, label: np.ndarray):
        self.camera, self.light = camera, light
        self.picture, self.label = Image.fromarray(picture, "RGBA"), Image.fromarray(label, "L")
        self._draw_picture, self._draw_label = ImageDraw.Draw(self.picture), ImageDraw.Draw(self.label)

    def paint(self, polygons: list, class_id: int | None, *, wall: int = 0) -> None:
        """Paint polygons in order.

        Args:
            polygons: (points, color) each, points a list of (x, y, z) in metres, color RGB or None for labels only.
            class_id: Label, or None to leave the labels.
            wall: Number of the wall these polygons show.
        """
        if not polygons:
            return
        ends = np.cumsum([len(points) for points, _ in polygons]).tolist()
        pixels = (
            self.camera.project(np.array([p for points, _ in polygons for p in points], dtype=np.float64))
            .ravel()
            .tolist()
        )
        start = 0
        for (_, color), end in zip(polygons, ends, strict=True):
            outline = pixels[2 * start : 2 * end]
            if color is not None:
                self._draw_picture.polygon(outline, fill=(*color, wall))
            if class_id is not None:
                self._draw_label.polygon(outline, fill=class_id)
            start = end

    def stamp(self, center, radius: tuple[float, float], crown: np.ndarray, color, class_id: int) -> None:
        """Paint a leafy blob.

        Args:
            center: (x, y, z) in metres.
            radius: Half width and half height in metres.
            crown: uint8 [s, s, 2], cover (painted where above 127) and shading.
            color: RGB at full shading, 0..255.
            class_id: Label.
        """
        x, y = self.camera.pixel(*center)
        scale = self.camera.focal / max(center[2], NEAR)
        width, height = 2 * radius[0] * scale, 2 * radius[1] * scale
        left, top = x - width / 2, y - height / 2
        columns = np.arange(max(0, int(left)), min(self.camera.width, int(left + width) + 1))
        rows = np.arange(max(0, int(top)), min(self.camera.height, int(top + height) + 1))
        if not len(columns) or not len(rows) or min(width, height) < 2:
            return
        last = len(crown) - 1
        rows_there = np.minimum(np.maximum((rows - top) * ((last + 1) / height), 0), last).astype(np.intp)
        columns_there = np.minimum(np.maximum((columns - left) * ((last + 1) / width), 0), last).astype(np.intp)
        patch = crown[rows_there[:, None], columns_there]
        keep = math.exp(-center[2] / self.light.haze_length)
        table = np.zeros((256, 4), np.uint8)
        table[:, :3] = _RAMP * (np.asarray(color) * keep) + np.asarray(self.light.haze) * (1 - keep)
        where = Image.fromarray((patch[..., 0] > 127).view(np.uint8) * np.uint8(255))
        corner = (int(columns[0]), int(rows[0]))
        self.picture.paste(Image.fromarray(table[patch[..., 1]], "RGBA"), corner, where)
        self.label.paste(class_id, (*corner, corner[0] + len(columns), corner[1] + len(rows)), where)


def pick(rng: np.random.Generator, colors: np.ndarray, spread: float = 14.0) -> np.ndarray:
    """Return one of the colours (rows), float64 [3], moved by a few grey levels."""
    color = colors[rng.integers(len(colors))] + rng.normal(0.0, spread, 3)
    return np.minimum(np.maximum(color, 5.0), 250.0)  # np.clip is slow for three numbers


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
