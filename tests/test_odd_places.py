"""Odd paths, one image in each split, and 64-bit JAX: training, evaluation and prediction stay right."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from gan_seg_jax.runs import checkpoint
from tests import tiny_runs

ODD = "-a \"b\"'c'\n$d;&*? \u00fc\u65e5 {0} %s"


@pytest.mark.slow
def test_odd_paths_are_paths(tiny, tmp_path):
    """A leading dash, quotes, a line break, what shells and formats look for, letters that are not ASCII."""
    data, run, out = (tmp_path / ODD / name for name in ("data", "run", "out"))
    shutil.copytree(tiny.data, data)
    args = [arg.replace(str(tiny.data), str(data)) for arg in tiny.args]
    outcome = tiny_runs.command("main", *args, f"--workdir={run}")
    assert outcome.code == 0, outcome.err
    assert tiny_runs.digests(run) == tiny_runs.digests(tiny.cgan)
    summary, other = (json.loads((folder / "summary.json").read_text()) for folder in (run, tiny.cgan))
    assert summary["test"] == other["test"]
    outcome = tiny_runs.command("evaluate", f"--workdir={run}")
    assert outcome.code == 0, outcome.err
    assert json.loads((run / "evaluation-test.json").read_text())["miou"] == summary["test"]["miou"]
    (data / "test" / "images" / "000.png").rename(data / f"{ODD}.png")
    outcome = tiny_runs.command("predict", f"--workdir={run}", f"--input={data / ODD}.png", f"--output={out}")
    assert outcome.code == 0, outcome.err
    assert np.asarray(Image.open(out / "masks" / f"{ODD}.png")).shape == (12, 20)


@pytest.mark.parametrize("name", ["a[b]", "a\\b"])
def test_a_folder_from_which_orbax_reads_nothing_is_refused(tiny, tmp_path, name):
    """It saved there, and said so, but only an empty checkpoint could be read again."""
    outcome = tiny_runs.command("main", *tiny.args, f"--workdir={tmp_path / name}")
    assert outcome.code == 2 and "cannot read checkpoints" in outcome.err and not (tmp_path / name).exists()


@pytest.mark.slow
def test_one_image_in_each_split(tiny, tmp_path):
    data, run = tmp_path / "data", tmp_path / "run"
    shutil.copytree(tiny.data, data)
    for split in ("train", "val", "test"):
        for kind in ("images", "masks"):
            for path in sorted((data / split / kind).iterdir())[1:]:
                path.unlink()
    shutil.rmtree(data / "unlabeled", ignore_errors=True)
    args = [arg.replace(str(tiny.data), str(data)) for arg in tiny.args]
    outcome = tiny_runs.command("main", *args, f"--workdir={run}")
    assert outcome.code == 0, outcome.err
    scored = json.loads((run / "summary.json").read_text())["test"]
    outcome = tiny_runs.command("evaluate", f"--workdir={run}")
    assert outcome.code == 0, outcome.err
    written = json.loads((run / "evaluation-test.json").read_text())
    assert {name: written[name] for name in scored} == scored
    out = tmp_path / "out"
    outcome = tiny_runs.command("predict", f"--workdir={run}", f"--input={data / 'test' / 'images'}", f"--output={out}")
    assert outcome.code == 0, outcome.err
    label, mask = (np.asarray(Image.open(path / "masks" / "000.png")) for path in (data / "test", out))
    assert np.mean(label[label < 3] == mask[label < 3]) == pytest.approx(scored["pixel_accuracy"])


@pytest.mark.slow
def test_64_bit_jax_trains_32_bit_networks(tiny, tmp_path):
    """Its draws are others; all else is the same: types, scores again, labels."""
    for command, args in {"main": tiny.args, "evaluate": ()}.items():
        process = tiny_runs.start(command, *args, f"--workdir={tmp_path}", cache=tiny.cache, JAX_ENABLE_X64="1")
        _, err = process.communicate(timeout=600)
        assert process.returncode == 0, err
    found, right = (checkpoint.load_checkpoint(folder)[0] for folder in (tmp_path, tiny.cgan))
    kinds = [{path: (x.dtype, x.shape) for path, x in arrays.items()} for arrays in (found, right)]
    assert kinds[0] == kinds[1]
    scored = json.loads((tmp_path / "summary.json").read_text())["test"]
    outcome = tiny_runs.command("evaluate", f"--workdir={tmp_path}", "--checkpoint=best")  # with 32 bits
    assert outcome.code == 0, outcome.err
    written = json.loads((tmp_path / "evaluation-test.json").read_text())
    assert written["miou"] == pytest.approx(scored["miou"], abs=1e-3)
