"""What a task says of its runs, to all that have to do with them: training, the summary, the commands."""

import copy
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Self

from ml_collections import ConfigDict

from gan_seg_jax.data.catalog import Split
from gan_seg_jax.errors import InputError
from gan_seg_jax.inference.options import PLAIN, Options

COMMANDS = ("predict", "sample", "memorization", "judge", "crf_search")  # that not every run suits


def nothing_to_check(*_: Any) -> None:
    """Accept whatever it is."""


class Pictures(NamedTuple):
    """What `predict` writes of each image that it is given.

    Attributes:
        folders: in which they are, each under the image's name.
        done: what the images are then, for people.
        maker: (run, options, maps) -> a function from [(file, name), ...] to (name, folder -> uint8 picture) of each,
            those that cannot be read left out; of segmentation it takes, too, what reads in place of files.
        takes_masks: config -> whether it is given masks of class ids in place of images.
        maps: further pictures, each a folder, that are made where they are asked for.
        masks: the folder of class ids, "" where there is none.
    """

    folders: tuple[str, ...]
    done: str
    maker: Callable[..., Callable]
    takes_masks: Callable[[ConfigDict], bool] = lambda config: False
    maps: tuple[str, ...] = ()
    masks: str = ""


class OfSplit:
    """What scores or draws a split by programs that serve every split: evaluators and sheets."""

    _read: Callable[[Split], None]  # takes a split in place of the one before

    def on(self, split: Split) -> Self:
        """Return the same for another split; what is compiled is shared."""
        other = copy.copy(self)
        other._read(split)
        return other


class Task(NamedTuple):
    """One thing that methods can be for.

    Attributes:
        name: as in `TASKS`, in a method's `TASK` and in summary.json.
        selected_by: name of the score that chooses the best checkpoint.
        lower_is_better: whether the best is the lowest.
        evaluator: (method, config, split, mesh, workdir, options) -> a callable from (state, *, poll) to the scores of
            a split; it takes `image_counts` and `each`, too, where the task has the counts, and options other than the
            plain ones where `has_options` says so. Its `on(split)` is the same for another split, and shares what is
            compiled.
        sheet: (method, config, split) -> a callable from a state to a picture of some of what it makes of a split;
            `on(split)` likewise.
        table: [(name, scores), ...] -> text; the first row is the run, baselines may follow.
        refusals: of `COMMANDS`, those that do not take such a run, with the end of the sentence "WORKDIR is a run of
            METHOD, which ..." that they give.
        check: (config, validation split) -> None, before anything is trained; raises InputError where they do not suit.
        check_canvas: (method, config, dataset, state) -> None, likewise: traces what evaluation will do, where that is
            other than what training does.
        pictures: what `predict` writes, where it takes such a run.
        batches: (method, config, split, state, seed) -> batches of what is made, {"image": uint8 [b, h, w, 3], maybe
            "label": [b, h, w]}, without end, where `sample` takes such a run.
        has_options: whether the options of inference (scales, CRF, ...) have a meaning.
        has_image_counts: whether the counts of single images are kept.
        has_baselines: whether the classical methods of `config.baselines` do the same, to be scored beside it.
        records_data: whether a run keeps a record of the images that it was trained on, since what it makes may come to
            train others.
    """

    name: str
    selected_by: str
    lower_is_better: bool
    evaluator: Callable[..., Callable]
    sheet: Callable[..., Callable]
    table: Callable[[list[tuple[str, Mapping[str, Any]]]], str]
    refusals: Mapping[str, str]
    check: Callable[..., None] = nothing_to_check
    check_canvas: Callable[..., None] = nothing_to_check
    pictures: Pictures | None = None
    batches: Callable[..., Any] | None = None
    has_options: bool = False
    has_image_counts: bool = False
    has_baselines: bool = False
    records_data: bool = False

    def is_better(self, scores: Mapping[str, Any], best: Mapping[str, Any] | None) -> bool:
        """Return whether `scores` are better than the best so far (None: there are none yet)."""
        new, old = scores[self.selected_by], best and best[self.selected_by]
        if old is None:
            return True
        return new is not None and (new < old if self.lower_is_better else new > old)

    def require(self, command: str, run: str, method: str) -> None:
        """Check that a command takes runs of this task.

        Args:
            command: one of `COMMANDS`.
            run: the run's folder.
            method: name of its method.

        Raises:
            InputError: it does not.
        """
        if command in self.refusals:
            raise InputError(f"{run} is a run of {method}, which {self.refusals[command]}.")

    def check_options(self, options: Options, run: str) -> None:
        """Check that the options of inference have a meaning for a run of this task, whose folder is `run`.

        Raises:
            InputError: some are given, and they have none.
        """
        if options != PLAIN and not self.has_options:
            found = options.tag or "overlap"
            raise InputError(f"{run} is a run of {self.name}, for which {found} has no meaning; leave it out.")
