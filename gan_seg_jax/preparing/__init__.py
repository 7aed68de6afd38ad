"""From what people have to the folders that `data` reads: one file for each format, one writer for all."""

from gan_seg_jax.preparing import pairs
from gan_seg_jax.preparing.source import Format

FORMATS: dict[str, Format] = {
    "pairs": pairs,
}
"""What --format may be."""
