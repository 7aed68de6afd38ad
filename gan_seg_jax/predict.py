"""Label images: masks, colours, overlays and confidence; or translate them.

    python -m gan_seg_jax.predict --workdir=DIR --input=FILE_FOLDER_OR_LIST --output=FOLDER
        [--checkpoint=best|latest|STEP] [--skip_existing] [--areas] [--polygons=geojson|coco] [--entropy] [--doubt]
        [--explain] [--scales=0.75,1,1.25] [--flip] [--window=H,W] [--crf] [--min_region=50] ...

For each image, sub-folders kept: `masks/` (uint8 class ids, size of the input), `colors/`, `overlays/`, `confidence/`
(uint8 = round(255 p) of the chosen class, before any clean-up). A damaged image is reported and skipped. --input may be
a list, too: a file that ends in .txt, with a path on each line.

A NIfTI volume (.nii, .nii.gz) is labelled slice by slice, cut as the run's data were (or as --axis and the flags below
it say), and becomes a volume: `masks/NAME`, `confidence/NAME`; --areas writes `volumes.csv`, too, with mm3. Of a video
(.mp4, .avi, .mov, .mkv, .webm) `masks/NAME/000000.png` and so on are the frames, and there is an overlay video.

--entropy writes `entropy/` (uint8 = round(255 H / log k) of the probabilities), --doubt `doubt/` (round(255 (1 - D)),
how made up the discriminator finds the place), --areas `areas.csv` (pixels and share of each class in each image, and
mm2 where a spacing.csv beside the images says how large a pixel is), --polygons `polygons/NAME.geojson` or, for coco,
`polygons.json`. --explain writes `explained/`, a sheet for each image, which takes seconds: its entropy, what changes
in a mirror and the discriminator's doubt, and for the four largest classes Grad-CAM, integrated gradients and what
occlusion takes away. --skip_existing leaves images whose pictures are all there: a killed command goes on.

With a run of translation: `images/` (RGB, size of the input). Where such a run's input is labels, --input holds masks
of class ids.
"""

import functools
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import tqdm
from absl import flags

from gan_seg_jax import tasks
from gan_seg_jax.cli import commands
from gan_seg_jax.data import images, spacing
from gan_seg_jax.data.decoding import ImageError
from gan_seg_jax.errors import InputError
from gan_seg_jax.inference import explaining, finding, mask_files, options, volumes
from gan_seg_jax.inference.load import Run, load_run
from gan_seg_jax.inference.videos import Videos
from gan_seg_jax.inference.volumes import Volumes
from gan_seg_jax.pictures.png import write_picture
from gan_seg_jax.system.progress import track
from gan_seg_jax.tasks.task import Pictures

EXPLAINED = "explained"
Found = list[tuple[Path, Path]]  # (file, name of its outputs)
Media = dict[Path, Volumes | Videos]  # name of outputs -> what labels that file, of those that are no images


def write(output: Path, name: Path, pictures: dict[str, np.ndarray]) -> None:
    """Write the pictures of one image, each to its folder.

    Raises:
        InputError: a file cannot be written.
    """
    for folder, picture in pictures.items():
        write_picture(output / folder / name, picture)


def wanted_maps(pictures: Pictures, workdir: str, method: str) -> list[str]:
    """Return which further maps the flags ask for.

    Raises:
        InputError: what is asked for is of masks or probabilities, and such a run makes none.
    """
    values = flags.FLAGS
    asked = [name for name in ("areas", "polygons", "entropy", "doubt", "explain") if getattr(values, name)]
    if asked and not pictures.masks:
        raise InputError(f"{workdir} is a run of {method}, which makes no masks; leave out --{asked[0]}.")
    return [name for name in pictures.maps if name in asked]


def explain(output: Path, todo: Found, run: Run) -> None:
    """Write the explanations of images."""
    for name, sheet in track(explaining.sheets(run, todo), len(todo), "explanation"):
        write_picture(output / EXPLAINED / name, sheet)


def expect_apart(source: Path, output: Path, folders: Sequence[str]) -> None:
    """Raise InputError where pictures would be written over the images."""
    for folder in folders:
        target = (output / folder).resolve()
        if target == source.resolve() or target in source.resolve().parents:
            raise InputError(f"--output {output} would be written over --input {source}; give another folder.")


def media_of(found: Found, output: Path, workdir: str, run: Run, maps: Sequence[str], masks: str) -> Media:
    """Return what labels each of the files that are no images, by the name of its outputs.

    Raises:
        InputError: the run makes no `masks`, a flag is missing, or a package.
    """
    of = lambda endings: [name for _, name in found if name.name.lower().endswith(endings)]
    cut, moving = of(finding.VOLUME_ENDINGS), of(finding.VIDEO_ENDINGS)
    if (cut or moving) and not masks:
        name = (cut or moving)[0]
        raise InputError(f"{workdir} is a run of {run.config.method}, which makes no masks; {name} is no image.")
    media: Media = {}
    if cut:
        media |= dict.fromkeys(cut, Volumes(output, maps, volumes.cut_from_flags(workdir)))
    if moving:
        media |= dict.fromkeys(moving, Videos(output, maps, run.config, keep=flags.FLAGS.skip_existing))
    return media


def label_media(make: Callable, todo: Found, media: Media) -> set[Path]:
    """Label volumes and videos; return the names of those that are done, the others are reported."""
    written = set()
    for file, name in todo:
        try:
            media[name].label(make, file, name)
            written.add(name)
        except ImageError as error:
            tqdm.tqdm.write(f"not done: {error}", file=sys.stderr)
    return written


def describe(output: Path, source: Path, done: Found, run: Run, media: Media, folder: str) -> None:
    """Write what the flags ask for of the masks, in `folder`, of the inputs that are done."""
    values, names = flags.FLAGS, tuple(run.config.class_names)
    if not (values.areas or values.polygons):
        return
    root = source if source.is_dir() else Path(os.path.commonpath([file.parent for file, _ in done]))
    named = sorted((file.relative_to(root).as_posix(), name) for file, name in done)
    sizes = spacing.of_folder(root) if values.areas else {}
    of_image = functools.partial(mask_files.read_masks, output / folder, max_pixels=run.config.max_pixels, sizes=sizes)

    def masks() -> Iterator[mask_files.Mask]:
        for image, name in track(named, len(named), "mask"):
            yield from media[name].masks(image, name) if name in media else of_image([(image, name)])

    mask_files.write_masks(output, masks(), names, areas=values.areas, form=values.polygons)
    cut = [(image, name) for image, name in named if isinstance(media.get(name), Volumes)]
    if values.areas and cut:
        mask_files.write_volumes(output, ((image, *media[name].read(name)) for image, name in cut), names)


def main() -> None:
    """Run the command."""
    source, output = Path(commands.required("input")), Path(commands.required("output"))
    workdir = commands.required("workdir")
    how = options.options_from_flags(workdir)
    run = load_run(workdir, flags.FLAGS.checkpoint)
    task = tasks.of(run.method)
    task.require("predict", workdir, run.config.method)
    task.check_options(how, workdir)
    pictures = task.pictures
    maps = wanted_maps(pictures, workdir, run.config.method)
    folders = (*pictures.folders, *maps, *([EXPLAINED] if flags.FLAGS.explain else []))
    expect_apart(source, output, folders)
    endings = images.MASK_ENDINGS if pictures.takes_masks(run.config) else images.ENDINGS
    endings = (*endings, *finding.MEDIA_ENDINGS) if pictures.masks else endings
    found = finding.find_images(source, output, (*pictures.folders, *pictures.maps, EXPLAINED), endings)
    media = media_of(found, output, workdir, run, maps, pictures.masks)
    mask_files.expect_writable(output, folders)
    is_there = lambda name: all(os.path.isfile(output / folder / name) for folder in folders)
    there = {
        name
        for _, name in found
        if flags.FLAGS.skip_existing and (media[name].has(name) if name in media else is_there(name))
    }
    todo, written = [(file, name) for file, name in found if name not in there], set()
    make = pictures.maker(run, how, maps)
    stills = [(file, name) for file, name in todo if name not in media]
    for name, made in track(make(stills), len(stills)):
        write(output, name, made)
        written.add(name)
    if flags.FLAGS.explain:
        explain(output, [(file, name) for file, name in stills if name in written], run)
    written |= label_media(make, [(file, name) for file, name in todo if name in media], media)
    kind = "files" if media else "images"
    if not written and not there:
        raise InputError(f"None of the {len(found)} {kind} of {source} could be read.")
    describe(output, source, [each for each in found if each[1] in written | there], run, media, pictures.masks)
    places = [folder for folder in folders if (output / folder).is_dir()]
    where = f"{{{','.join(places)}}}" if len(places) > 1 else places[0]
    already = f", {len(there)} were there" if there else ""
    print(f"{len(written)} of {len(todo)} {kind} {pictures.done}{already}: {output}/{where}")


if __name__ == "__main__":
    commands.define_run_flags("workdir", "checkpoint")
    flags.DEFINE_string(
        "input", None, "An image, volume or video, a folder of them (and sub-folders), or a list (.txt)."
    )
    flags.DEFINE_string("output", None, "Folder for the pictures.")
    flags.DEFINE_bool("skip_existing", False, "Leave images whose pictures are all there, whatever run made them.")
    flags.DEFINE_bool("areas", False, "Write areas.csv: pixels and share, maybe mm2, of each class in each image.")
    flags.DEFINE_enum("polygons", None, ["geojson", "coco"], "Write the regions of the masks as polygons.")
    flags.DEFINE_bool("entropy", False, "Write the entropy of the probabilities as pictures.")
    flags.DEFINE_bool("doubt", False, "Write where the discriminator takes the prediction for made up, as pictures.")
    flags.DEFINE_bool("explain", False, "Write a sheet for each image: why it was labelled so, and how sure that is.")
    options.define_flags()
    volumes.define_flags()
    commands.run(main, __doc__)
