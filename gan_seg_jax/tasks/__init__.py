"""What a method can be for: to segment, to generate, to translate; each task scores, draws and checks its own."""

import importlib
from typing import Any

from gan_seg_jax.tasks.task import Task

NAMES = ("segmentation", "generation", "translation")


class _Tasks(dict[str, Task]):
    """Name -> task, loaded when it is asked for: the packages that score generated images take a second to load."""

    def __missing__(self, name: str) -> Task:
        if name not in NAMES:
            raise KeyError(name)
        self[name] = importlib.import_module(f"{__name__}.{name}").TASK
        return self[name]


TASKS = _Tasks()


def of(method: Any) -> Task:
    """Return the task of a method."""
    return TASKS[method.TASK]
