"""From what people have to the folders that `data` reads: one file for each format, one writer for all."""

from gan_seg_jax.preparing import (
    cityscapes,
    coco,
    cvat,
    dicom,
    isic,
    labelme,
    nifti,
    oxford_iiit_pet,
    pairs,
    pix2pix,
    stanford_background,
    voc,
)
from gan_seg_jax.preparing.source import Format

FORMATS: dict[str, Format] = {
    "pairs": pairs,
    "voc": voc,
    "coco": coco,
    "labelme": labelme,
    "cvat": cvat,
    "cityscapes": cityscapes,
    "pix2pix": pix2pix,
    "nifti": nifti,
    "dicom": dicom,
    "oxford_iiit_pet": oxford_iiit_pet,
    "isic": isic,
    "stanford_background": stanford_background,
}
"""What --format may be."""
