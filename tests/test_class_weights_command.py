"""The command that prints class weights."""

import contextlib
import json
import re

import numpy as np
import pytest
from PIL import Image

from tests import tiny_runs


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """Two images of three classes; the third never occurs."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "classes.txt").write_text("0 sky 0 0 255\n1 road 90 90 90\n2 car 200 0 0\n")
    for name in ("first", "second"):
        for kind, array in (
            ("images", np.full((4, 5, 3), len(name), np.uint8)),  # not the same: one of them is val
            ("masks", np.array([[0] * 5] * 3 + [[1] * 4 + [255]], np.uint8)),
        ):
            path = folder / "train" / kind / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(path)
    return folder


def _run(*args):
    with contextlib.chdir(tiny_runs.ROOT):
        return tiny_runs.command("class_weights", *args)


def _args(data_dir):
    return "--config=configs/supervised_seg.py", "--config.dataset=folder", f"--config.data_dir={data_dir}"


def test_table_flag_and_file(data_dir, tmp_path):
    output = tmp_path / "weights.json"
    outcome = _run(*_args(data_dir), "--rule=inverse", f"--output={output}")
    assert outcome.code == 0 and outcome.err == ""
    header, sky, road, car = outcome.out.splitlines()[:4]
    assert header.split() == [
        "class",
        "pixels",
        "share",
        "inverse",
        "median_frequency",
        "root_median_frequency",
        "fourth_root_median_frequency",
        "effective_number",
    ]
    assert sky.split()[:4] == ["sky", "15", "78.95%", "0.4211"]
    assert road.split()[:4] == ["road", "4", "21.05%", "1.579"]
    assert car.split() == ["car", "0", "0.00%", "0", "0", "0", "0", "0"]
    assert "no pixel of the training labels is car" in outcome.out
    flag = re.search(r'--config\.losses\.class_weights="\((.*)\)"', outcome.out)
    assert flag[1] == "0.4211, 1.579, 0.0"
    values = json.loads(output.read_text())
    assert values["class_weights"] == {"sky": 0.4211, "road": 1.579, "car": 0.0}
    assert values["pixels"] == {"sky": 15, "road": 4, "car": 0} and values["rule"] == "inverse"


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ((), ("--config is missing",)),
        (("--config=configs/supervised_sg.py",), ("supervised_sg.py", "does not exist")),
        (("--config=configs/supervised_seg.py", "--rule=median"), ("--rule", "median_frequency")),
        (("--config=configs/supervised_seg.py", "--config.dataset=camvd"), ("camvd", "camvid")),
        (("--config=configs/supervised_seg.py", "--config.dataset=folder"), ("data_dir",)),
        (("--config=configs/supervised_seg.py", "--ruel=inverse"), ("ruel",)),
    ],
)
def test_bad_input_is_one_sentence(args, words):
    outcome = _run(*args)
    assert outcome.code == 2 and outcome.out == ""
    assert outcome.err.startswith("error: ") and outcome.err.count("\n") == 1
    assert all(word in outcome.err for word in words)


def test_help():
    outcome = _run("--help")
    assert outcome.code == 0 and "--rule" in outcome.out and "python -m gan_seg_jax.class_weights" in outcome.out
