"""What a pixel's label may be: a class id, or that nothing is known of it."""

IGNORE = 255
"""Label of pixels that neither training nor scoring looks at (void, unlabelled, padding)."""

MAX_CLASSES = IGNORE
"""Class ids are 0..254 in 8-bit masks, the last value being `IGNORE`."""
