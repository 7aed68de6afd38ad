"""What a method can be for: to segment, to generate, to translate; each task scores, draws and checks its own."""

from typing import Any

from gan_seg_jax.tasks import generation, segmentation, translation
from gan_seg_jax.tasks.task import Task

TASKS: dict[str, Task] = {
    "segmentation": segmentation.TASK,
    "generation": generation.TASK,
    "translation": translation.TASK,
}


def of(method: Any) -> Task:
    """Return the task of a method."""
    return TASKS[method.TASK]
