"""Pictures for people: colours and overlays of class ids, the sheet of samples, the curves of a run."""

import io
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from gan_seg_jax.system import files

IGNORE_COLOR = (103, 122, 150)
WRONG_COLOR = (226, 26, 28)
CELL_WIDTH = 256  # smaller images are enlarged by a whole factor to at least this many pixels
CELL_LIMIT = 640  # larger ones are shrunk until their longer side fits
COLUMN_WIDTH = 110  # at least, for the headers over narrow cells
GAP = 8
LINE = 22
TEXT_COLOR = (30, 30, 30)
FAINT_COLOR = (110, 110, 110)
LEGEND_LIMIT = 40  # with more classes than this the legend names only those in the sheet
ROLE_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
SCORES = {  # between 0 and 1, of a run's curves
    "miou": "mIoU",
    "pixel_accuracy": "pixel accuracy",
    "boundary_f1": "boundary F1",
    "judge_miou": "mIoU of masks found",
    "precision": "precision",
    "recall": "recall",
    "ssim": "SSIM",
}


def colorize(
    label: np.ndarray,
    class_colors: Sequence[tuple[int, int, int]],
    *,
    ignore_color: tuple[int, int, int] = IGNORE_COLOR,
) -> np.ndarray:
    """Return class ids in their colours.

    Args:
        label: integer [...], class ids; every id without a colour (such as 255) has `ignore_color`.
        class_colors: k RGB triples of 0..255.
        ignore_color: RGB.

    Returns:
        uint8 [..., 3].
    """
    table = np.array([*class_colors, ignore_color], dtype=np.uint8)
    label = np.asarray(label)
    known = (label >= 0) & (label < len(class_colors))
    return table[np.where(known, label, len(class_colors))]


def overlay(
    image: np.ndarray, label: np.ndarray, class_colors: Sequence[tuple[int, int, int]], *, alpha: float = 0.5
) -> np.ndarray:
    """Blend class colours into an image; pixels without a class stay as they are.

    Args:
        image: uint8 [..., 3].
        label: integer [...], class ids.
        class_colors: k RGB triples of 0..255.
        alpha: share of the colour, 0..1.

    Returns:
        uint8 [..., 3].
    """
    label = np.asarray(label)
    known = (label >= 0) & (label < len(class_colors))
    blend = (1 - alpha) * image.astype(np.float32) + alpha * colorize(label, class_colors).astype(np.float32)
    return np.where(known[..., None], np.rint(blend).astype(np.uint8), image)


def error_map(image: np.ndarray, label: np.ndarray, prediction: np.ndarray, *, num_classes: int) -> np.ndarray:
    """Show where the prediction is wrong: red over the grey image, pixels without truth grey-blue.

    Args:
        image: uint8 [..., 3].
        label: integer [...], true class ids; ids outside 0..num_classes - 1 are ignored.
        prediction: integer [...].
        num_classes: k.

    Returns:
        uint8 [..., 3].
    """
    label, prediction = np.asarray(label), np.asarray(prediction)
    grey = image.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    grey = np.repeat((60 + 0.7 * grey)[..., None], 3, axis=-1)
    ignored = (label < 0) | (label >= num_classes)
    wrong = ~ignored & (label != prediction)
    colored = np.where(wrong[..., None], 0.25 * grey + 0.75 * np.array(WRONG_COLOR, np.float32), grey)
    colored = np.where(ignored[..., None], 0.3 * grey + 0.7 * np.array(IGNORE_COLOR, np.float32), colored)
    return np.clip(np.rint(colored), 0, 255).astype(np.uint8)


def sample_panel(
    images: np.ndarray,
    labels: np.ndarray,
    predictions: np.ndarray,
    *,
    class_colors: Sequence[tuple[int, int, int]],
    class_names: Sequence[str],
    score_maps: np.ndarray | None = None,
    titles: Sequence[str] | None = None,
) -> np.ndarray:
    """Draw a sheet with a row for each image: image, truth, prediction, error, and the discriminator's map.

    Args:
        images: uint8 [n, h, w, 3], n at least 1.
        labels: integer [n, h, w]; ids that are no class are ignored.
        predictions: integer [n, h, w].
        class_colors: k RGB triples of 0..255.
        class_names: k names, for the legend.
        score_maps: float [n, h', w'], the discriminator's probability of "real", 0..1; drawn by nearest, one cell a
            patch. Without it the column is left out.
        titles: n lines of text, one above each row.

    Returns:
        uint8 [H, W, 3].
    """
    size = _cell_size(images.shape[1:3])
    columns = {
        "image": [_cell(x, size, Image.Resampling.BILINEAR) for x in images],
        "truth": [_cell(colorize(x, class_colors), size) for x in labels],
        "prediction": [_cell(colorize(x, class_colors), size) for x in predictions],
        "error": [
            _cell(error_map(*row, num_classes=len(class_colors)), size)
            for row in zip(images, labels, predictions, strict=True)
        ],
    }
    if score_maps is not None:
        columns["discriminator"] = [_cell(map_colors(x), size) for x in score_maps]
    width, height = size
    pitch = max(width, COLUMN_WIDTH) + GAP
    sheet_width = GAP + len(columns) * pitch
    row_height = height + GAP + (LINE if titles is not None else 0)
    shown = _shown_classes(labels, predictions, num_classes=len(class_names))
    legend = [(class_names[i], tuple(class_colors[i])) for i in shown]
    places, legend_height = _place_legend([*legend, ("ignored", IGNORE_COLOR), ("wrong", WRONG_COLOR)], sheet_width)
    footer = LINE + GAP if score_maps is not None else GAP
    top = LINE + GAP
    sheet = Image.new("RGB", (sheet_width, top + len(images) * row_height + footer + legend_height), "white")
    draw = ImageDraw.Draw(sheet)
    for j, (header, cells) in enumerate(columns.items()):
        x = GAP + j * pitch
        draw.text((x, GAP), header, fill=TEXT_COLOR, font=_font(15))
        for i, cell in enumerate(cells):
            sheet.paste(cell, (x, top + (i + 1) * row_height - height - GAP))
    for i, title in enumerate(titles or ()):
        draw.text((GAP, top + i * row_height + 1), title, fill=FAINT_COLOR, font=_font(13))
    bottom = top + len(images) * row_height
    if score_maps is not None:
        _draw_scale(sheet, draw, left=sheet_width - pitch, top=bottom, width=pitch - GAP)
    for name, color, x, y in places:
        draw.rectangle((x, bottom + footer + y + 4, x + 17, bottom + footer + y + 17), fill=color, outline=FAINT_COLOR)
        draw.text((x + 24, bottom + footer + y + 2), name, fill=TEXT_COLOR, font=_font(13))
    return np.asarray(sheet)


def image_grid(columns: Mapping[str, np.ndarray], *, width: int = 1600) -> np.ndarray:
    """Draw images that belong together side by side, several such groups in a row, as many as fit into `width`.

    Args:
        columns: header -> uint8 [n, h, w, 3]; the same n and size for all.
        width: of the sheet, pixels, at most (one group is always drawn).

    Returns:
        uint8 [H, W, 3].
    """
    count, *size = next(iter(columns.values())).shape[:3]
    factor = max(1, 128 // max(size))
    cell = (size[1] * factor, size[0] * factor)
    group = len(columns) * (cell[0] + 2) + GAP
    per_row = max(1, min(count, (width - GAP) // group))
    rows = -(-count // per_row)
    sheet = Image.new("RGB", (GAP + per_row * group, LINE + GAP + rows * (cell[1] + GAP)), "white")
    draw = ImageDraw.Draw(sheet)
    for number in range(count):
        left, top = GAP + number % per_row * group, LINE + GAP + number // per_row * (cell[1] + GAP)
        for place, (header, images) in enumerate(columns.items()):
            x = left + place * (cell[0] + 2)
            sheet.paste(_cell(images[number], cell), (x, top))
            if number < per_row:
                draw.text((x, GAP), header, fill=TEXT_COLOR, font=_font(13))
    return np.asarray(sheet)


def plot_curves(metrics_jsonl_path: str | os.PathLike, out_png: str | os.PathLike) -> None:
    """Plot losses, validation scores and gradient norms of a run over its steps.

    Args:
        metrics_jsonl_path: metrics.jsonl of a run; may be missing, empty or cut off.
        out_png: picture to write.
    """
    files.write_bytes(out_png, curves(read_records(metrics_jsonl_path)))


def curves(records: Sequence[dict]) -> bytes:
    """Return the picture of `plot_curves`, as the bytes of a PNG file, of what `read_records` returned."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = [name for record in records for name in record if name.startswith(("loss/", "grad_norm/"))]
    roles = sorted({name.split("/", 1)[1] for name in names})
    colors = {role: ROLE_COLORS[i % len(ROLE_COLORS)] for i, role in enumerate(roles)}
    figure = Figure(figsize=(13.5, 4.4), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    losses, scores, norms = figure.subplots(1, 3)
    for role in roles:
        _plot(losses, *_series(records, "train", f"loss/{role}"), label=role, color=colors[role])
        _plot(norms, *_series(records, "train", f"grad_norm/{role}"), label=role, color=colors[role])
    shown = {name: text for name, text in SCORES.items() if any(name in record for record in records)}
    for (name, text), color in zip(shown.items(), ROLE_COLORS, strict=False):
        _plot(scores, *_series(records, "val", name), label=text, color=color, marker="o", smooth=False)
    scores.set_ylim(0, 1)
    for axes, title in ((losses, "training loss"), (scores, "validation scores"), (norms, "gradient norm")):
        _finish(axes, title, log=axes is not scores)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _font(size: int) -> ImageFont.ImageFont:
    return ImageFont.load_default(size=size)


def _cell_size(size: tuple[int, int]) -> tuple[int, int]:
    """Return (width, height) of a cell for images of `size` (height, width)."""
    height, width = size
    scale = -(-CELL_WIDTH // width)
    if scale * max(height, width) > CELL_LIMIT:
        scale = CELL_LIMIT / max(height, width)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _cell(array: np.ndarray, size: tuple[int, int], resampling=Image.Resampling.NEAREST) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(array)).resize(size, resampling)


def map_colors(values: np.ndarray) -> np.ndarray:
    """Return uint8 [h, w, 3] from values 0..1 by matplotlib's viridis, equal steps of which look equal."""
    from matplotlib import colormaps

    values = np.nan_to_num(np.asarray(values, dtype=np.float32), nan=0.0)
    return colormaps["viridis"](np.clip(values, 0, 1), bytes=True)[..., :3]


def _shown_classes(labels: np.ndarray, predictions: np.ndarray, *, num_classes: int) -> list[int]:
    if num_classes <= LEGEND_LIMIT:
        return list(range(num_classes))
    return [i for i in np.union1d(labels, predictions).tolist() if 0 <= i < num_classes]


def _place_legend(entries: Sequence[tuple[str, tuple[int, int, int]]], width: int) -> tuple[list, int]:
    """Return [(name, colour, x, y)] in rows that fit `width`, and the height of all rows."""
    places, x, y = [], GAP, 0
    for name, color in entries:
        needed = 24 + round(_font(13).getlength(name)) + 18
        if x > GAP and x + needed > width:
            x, y = GAP, y + LINE
        places.append((name, color, x, y))
        x += needed
    return places, y + LINE + GAP


def _draw_scale(sheet: Image.Image, draw: ImageDraw.ImageDraw, *, left: int, top: int, width: int) -> None:
    """Draw the colours of 0..1 with what the ends mean."""
    text = _font(13)
    start = left + round(text.getlength("0 fake")) + GAP
    end = left + width - round(text.getlength("1 real")) - GAP
    ramp = np.repeat(np.linspace(0, 1, max(2, end - start))[None], 12, axis=0)
    sheet.paste(Image.fromarray(np.ascontiguousarray(map_colors(ramp))), (start, top + 4))
    draw.text((left, top + 1), "0 fake", fill=TEXT_COLOR, font=text)
    draw.text((end + GAP, top + 1), "1 real", fill=TEXT_COLOR, font=text)


def read_records(path: str | os.PathLike) -> list[dict]:
    """Return the lines of a run's metrics.jsonl, which may be missing, empty or cut off.

    Raises:
        InputError: it is no regular file.
    """
    records, path = [], Path(path)
    for line in files.read_bytes(path, limit=files.LOG_LIMIT).splitlines() if path.exists() else ():
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue  # half-written by a kill
        if isinstance(record, dict) and "split" in record and _is_number(record.get("step")):
            records.append(record)
    return records


def _series(records: Sequence[dict], split: str, name: str) -> tuple[np.ndarray, np.ndarray]:
    points = [(r["step"], r[name]) for r in records if r["split"] == split and _is_number(r.get(name))]
    return np.array([step for step, _ in points]), np.array([value for _, value in points], dtype=np.float64)


def _is_number(value) -> bool:
    return isinstance(value, (int, float)) and abs(value) < 1e300  # JSON has nan, infinity and longer numbers, too


def _plot(axes, steps, values, *, label: str, color: str, marker: str | None = None, smooth: bool = True) -> None:
    """Draw one line; a long noisy one faint, with its moving average on top."""
    if len(steps) == 0:
        return
    window = len(steps) // 25 if smooth else 0
    if window < 2:
        marker = "o" if len(steps) == 1 else marker if len(steps) <= 60 else None
        axes.plot(steps, values, color=color, label=label, linewidth=1.6, marker=marker, markersize=3.5)
        return
    weights = np.convolve(np.ones(len(values)), np.ones(window), mode="same")
    axes.plot(steps, values, color=color, alpha=0.25, linewidth=0.8)
    average = np.convolve(values, np.ones(window), mode="same") / weights
    axes.plot(steps, average, color=color, label=label, linewidth=1.8)


def _finish(axes, title: str, *, log: bool) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_title(title, fontsize=11, loc="left")
    axes.set_xlabel("step", fontsize=9)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    lines = axes.get_lines()
    if not lines:
        axes.text(0.5, 0.5, "nothing logged yet", ha="center", va="center", transform=axes.transAxes, color="grey")
        return
    values = np.concatenate([np.asarray(line.get_ydata(), dtype=np.float64) for line in lines])
    if log and values.min() > 0 and values.max() > 30 * values.min():
        axes.set_yscale("log")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    # Below the axes: inside, it hides the ends of curves, and the search for a free corner takes long for long lines.
    axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=3, frameon=False)
