"""A sheet of rows of pictures, each with a line above it and a title above each row."""

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

CELL = 320  # pixels of a picture's longer side
GAP, LINE = 12, 22
TEXT, FAINT = (30, 30, 30), (110, 110, 110)


def sheet(rows: Sequence[tuple[str, Mapping[str, np.ndarray]]]) -> np.ndarray:
    """Draw the sheet.

    Args:
        rows: (title, {line: picture uint8 [h, w, 3]}); all pictures have one size.

    Returns:
        uint8 [H, W, 3].
    """
    height, width = next(iter(rows[0][1].values())).shape[:2]
    scale = CELL / max(height, width)
    cell = max(1, round(width * scale)), max(1, round(height * scale))
    pitch = max(cell[0], 150) + GAP
    row_height = 2 * LINE + cell[1] + GAP
    size = GAP + max(len(pictures) for _, pictures in rows) * pitch, GAP + len(rows) * row_height
    found = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(found)
    for number, (title, pictures) in enumerate(rows):
        top = GAP + number * row_height
        draw.text((GAP, top), title, fill=TEXT, font=ImageFont.load_default(size=15))
        for place, (line, picture) in enumerate(pictures.items()):
            left = GAP + place * pitch
            draw.text((left, top + LINE), line, fill=FAINT, font=ImageFont.load_default(size=13))
            resampling = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BOX
            image = Image.fromarray(np.ascontiguousarray(picture))
            found.paste(image.resize(cell, resampling), (left, top + 2 * LINE))
    return np.asarray(found)
