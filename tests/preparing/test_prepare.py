"""The command: splits, going on after a kill, other flags, and targets and sources that cannot be used."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from gan_seg_jax.data.folder import open_folder
from gan_seg_jax.errors import InputError
from gan_seg_jax.prepare import FLAGS
from gan_seg_jax.preparing import FORMATS, run, source, splitting, writer
from tests import tiny_runs
from tests.preparing import sources
from tests.preparing.sources import photo, save

PLAIN = {"format": "pairs", "images": "images", "masks": "masks"}
COMMAND = (sys.executable, "-m", "gan_seg_jax.prepare")


@pytest.fixture
def folder(tmp_path):
    """Twelve images of four patients."""
    root = tmp_path / "source"
    sources.classes(root / "classes.txt", "0 a 0 0 0\n1 b 9 9 9\n")
    for number in range(12):
        name = f"p{number % 4}_{number}"
        save(root / "images" / f"{name}.png", photo(number))
        save(root / "masks" / f"{name}.png", photo(number)[..., 0] % 2)
    return root


def message(folder, **options) -> str:
    with pytest.raises(InputError) as caught:
        sources.run(folder, **{**PLAIN, **options})
    return str(caught.value)


def split_of(out):
    return {name: split for split in ("train", "val", "test") for name in sources.names(out, split)}


def state_of(root):
    return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in root.rglob("*")}


def test_splits_are_drawn_by_seed(folder, tmp_path):
    before = state_of(folder)
    outs = []
    for number, seed in enumerate((0, 0, 1)):
        outs.append(tmp_path / f"out{number}")
        sources.run(folder, **PLAIN, val_fraction=0.25, test_fraction=0.25, seed=seed, output=str(outs[-1]))
    first, second, third = map(split_of, outs)
    assert first == second != third and len(first) == 12
    assert sorted(first.values()).count("val") == 3 and list(first.values()).count("test") == 3
    assert state_of(folder) == before
    assert (outs[0] / "PREPARED.jsonl").read_bytes() == (outs[1] / "PREPARED.jsonl").read_bytes()


def test_groups_stay_together(folder, tmp_path):
    sources.run(folder, **PLAIN, val_fraction=0.25, test_fraction=0.25, group_pattern="^(p\\d)_")
    sides = {}
    for name, split in split_of(tmp_path / "out").items():
        sides.setdefault(name[:2], set()).add(split)
    assert sorted(map(sorted, sides.values())) == [["test"], ["train"], ["train"], ["val"]]
    assert "--group_pattern 'x' has 0 groups" in message(folder, group_pattern="x", output=str(tmp_path / "b"))


def test_splits_by_lists(folder, tmp_path):
    (folder / "train.txt").write_text("# ids\np0_0\np1_1.png\n\nimages/p2_2.png\n")
    (folder / "val.txt").write_text("p3_3\n")
    found = sources.run(folder, **PLAIN, lists="train=train.txt,val=val.txt")
    assert split_of(tmp_path / "out") == {"p0_0": "train", "p1_1": "train", "p2_2": "train", "p3_3": "val"}
    assert found["left_out"][splitting.NOT_LISTED]["count"] == 8
    other = str(tmp_path / "b")
    (folder / "val.txt").write_text("p3_3\nnowhere\n")
    assert "val.txt names 1 of 2 images that are not there, such as 'nowhere'" in message(
        folder, lists="train=train.txt,val=val.txt", output=other
    )
    (folder / "val.txt").write_text("p0_0\n")
    assert "'p0_0' is in train and in val" in message(folder, lists="train=train.txt,val=val.txt", output=other)
    (folder / "val.txt").write_text("p0_4\n")
    options = {"lists": "train=train.txt,val=val.txt", "group_pattern": "^(p\\d)_", "output": other}
    assert "p0_0 of train and p0_4 of val are of one group" in message(folder, **options)


def test_what_is_listed_as_unlabelled_has_no_masks(folder, tmp_path):
    (folder / "train.txt").write_text("p0_0\np1_1\n")
    (folder / "rest.txt").write_text("p3_3\n")
    found = sources.run(folder, **PLAIN, lists="train=train.txt,unlabelled=rest.txt")
    assert sources.names(tmp_path / "out", "unlabeled") == ["p3_3"]
    assert not (tmp_path / "out" / "unlabeled" / "masks").exists() and found["splits"]["unlabelled"]["labelled"] == 0


def test_an_image_in_two_splits_is_refused_or_left_out(folder, tmp_path):
    save(folder / "images" / "p9_copy.png", photo(0))
    save(folder / "masks" / "p9_copy.png", photo(0)[..., 0] % 2)
    (folder / "t.txt").write_text("\n".join(f"p{n % 4}_{n}" for n in range(12)))
    (folder / "v.txt").write_text("p9_copy\np9_copy")
    lists = {"lists": "train=t.txt,test=v.txt"}
    assert "images/p9_copy.png: image that is equal to one of another split" in message(folder, **lists)
    with pytest.raises(InputError, match="is not finished: gan-seg prepare was stopped, or has refused something"):
        open_folder(str(tmp_path / "out"))
    found = sources.run(folder, **PLAIN, **lists, skip_duplicates=True)  # the flag that it names may be added
    open_folder(str(tmp_path / "out"))
    assert found["left_out"]["equal to an image of another split"]["such_as"] == ["test/p9_copy"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"format": ""}, "--format is missing; expected one of: pairs"),
        ({"format": "pair"}, "Did you mean 'pairs'?"),
        ({"images": ""}, "--images is missing"),
        ({"images": "pictures"}, "no folder pictures"),
        ({"splits": "train:a", "images": "{split}"}, "expected SPLIT=NAME"),
        ({"splits": "train=a"}, "--images=images has none"),
        ({"splits": "train=a", "format": "voc", "images": "", "masks": ""}, "--splits is not read with --format=voc"),
        ({"val_fraction": 1.0}, "leave something to train on"),
        ({"val_fraction": 0.5, "lists": "train=x"}, "give one of them"),
        ({"lists": "train=nowhere.txt"}, "nowhere.txt cannot be read"),
        ({"mask_values": "colours"}, "expected one of: ids, binary, colors, instances"),
        ({"unknown": "void"}, "--unknown has no meaning with --mask_values=ids"),
        ({"exif": "left"}, "--exif is 'left'; expected upright or stored"),
        ({"void": "x"}, "--void is 'x'; expected numbers"),
        ({"classes": "nowhere.txt"}, "nowhere.txt does not exist"),
        ({"class_names": "a,a"}, "'a' cannot be the name of a class"),
        ({"max_pixels": 10}, "expected 1 to 10 pixels"),
        ({"output": ""}, "--output is missing"),
    ],
)
def test_flags_that_are_wrong(folder, options, words):
    assert words in message(folder, **options)


def test_sources_and_targets_that_cannot_be_used(folder, tmp_path):
    with pytest.raises(InputError, match="does not exist; expected the folder"):
        sources.run(tmp_path / "nowhere", **PLAIN)
    (tmp_path / "a.zip").write_bytes(b"PK")
    with pytest.raises(InputError, match="is a file: unpack it"):
        sources.run(tmp_path / "a.zip", **PLAIN)
    assert "lie in each other" in message(folder, output=str(folder / "out"))
    (tmp_path / "link").symlink_to(folder)
    assert "lie in each other" in message(folder, output=str(tmp_path / "link"))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x.txt").write_text("mine")
    assert "holds x.txt and no PREPARED.json" in message(folder, output=str(tmp_path / "full"))
    assert "is a file; name a new folder" in message(folder, output=str(tmp_path / "a.zip"))
    assert "cannot be written" in message(folder, output="/proc/nothing")
    (folder / "images" / "loop").symlink_to(folder)
    found = sources.run(folder, **PLAIN)
    assert found["left_out"]["links to folders"] == {"count": 1, "such_as": ["images/loop"]}


def test_a_second_call_checks_and_mends(folder, tmp_path):
    out = tmp_path / "out"
    sources.run(folder, **PLAIN)
    whole = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    changed = state_of(out / "train")
    sources.run(folder, **PLAIN)
    assert state_of(out / "train") == changed
    (out / "train/masks/p0_0.png").write_bytes(b"")
    (out / "train/images/p1_1.png").unlink()
    sources.run(folder, **PLAIN)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == whole
    assert "begun with other flags (--seed= then, 1 now)" in message(folder, seed=1)
    save(folder / "images" / "new.png", photo(50))
    save(folder / "masks" / "new.png", photo(50)[..., 0] % 2)
    assert "when the source held other files" in message(folder)


def test_after_a_refusal_that_has_written_nothing_the_flags_may_change(folder, tmp_path):
    for path in (folder / "masks").iterdir():
        save(path, 7 * (np.arange(48).reshape(6, 8) % 2))
    assert "numbers outside of the 2 classes" in message(folder)
    sources.run(folder, **PLAIN, void="7,255")
    assert len(sources.names(tmp_path / "out", "train")) == 12


def test_lines_that_somebody_has_written_are_not_believed(folder, tmp_path):
    out = tmp_path / "out"
    sources.run(folder, **PLAIN)
    text = (out / "PREPARED.jsonl").read_text()
    (tmp_path / "precious").write_text("x")
    first, rest = text.split("\n", 1)
    wrong = [
        "[]",
        '{"split": "train"}',
        first.replace("train/images/p0_0.png", "../precious"),
        first.replace("{", "{{"),
    ]
    for line in [*wrong, first.replace('"files": {', '"files": 3, "x": {'), '{"split": [], "id": "a", "source": []}']:
        (out / "PREPARED.jsonl").write_text(f"{line}\n{rest}")
        sources.run(folder, **PLAIN)
        assert (out / "PREPARED.jsonl").read_text() == text and (tmp_path / "precious").exists()
    for damaged in ("[]", '{"flags": {"max_ambiguous": "few"}}'):
        (out / "PREPARED.json").write_text(damaged)
        assert "PREPARED.json has been changed" in message(folder)


def test_an_image_that_has_changed_is_written_again(folder, tmp_path):
    sources.run(folder, **PLAIN)
    save(folder / "masks" / "p0_0.png", 1 - photo(0)[..., 0] % 2)
    sources.run(folder, **PLAIN)
    np.testing.assert_array_equal(sources.read(tmp_path / "out", "train", "p0_0"), 1 - photo(0)[..., 0] % 2)


def test_after_a_problem_is_mended_it_goes_on(folder, tmp_path):
    save(folder / "masks" / "p1_5.png", photo(5)[..., 0] % 2 + 6)
    assert "masks/p1_5.png (values 6, 7): numbers outside" in message(folder)
    out = tmp_path / "out"
    assert not sources.record(out)["complete"] and len(sources.names(out, "train")) == 11
    written = state_of(out / "train" / "images")
    with (out / "PREPARED.jsonl").open("a") as lines:
        lines.write('{"split": "train", "id"')  # a kill in the middle of a line
    save(folder / "masks" / "p1_5.png", photo(5)[..., 0] % 2)
    sources.run(folder, **PLAIN)
    assert sources.record(out)["complete"] and len(sources.names(out, "train")) == 12
    assert written.items() <= state_of(out / "train" / "images").items()
    assert len((out / "PREPARED.jsonl").read_text().splitlines()) == 12


def test_killed_and_started_again(folder, tmp_path):
    for number in range(12, 80):
        save(folder / "images" / f"p0_{number}.png", photo(number))
        save(folder / "masks" / f"p0_{number}.png", photo(number)[..., 0] % 2)
    out, expected = tmp_path / "out", tmp_path / "expected"
    words = [f"--{name}={value}" for name, value in PLAIN.items()]
    process = subprocess.Popen([*COMMAND, *words, f"--source={folder}", f"--output={out}"], cwd=tiny_runs.ROOT)
    lines = out / "PREPARED.jsonl"
    while process.poll() is None and not (lines.exists() and lines.stat().st_size):
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    left = out / "train" / "images" / f".{'0a' * 16}.tmp"  # as a kill in the middle of a file leaves it
    left.write_bytes(b"x")
    assert lines.read_text()
    done = subprocess.run(
        [*COMMAND, *words, f"--source={folder}", f"--output={out}"], cwd=tiny_runs.ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "train: 80 images; void 0.0% of the pixels; of the others a" in done.stdout
    assert f"gan-seg train --config=configs/auto.py --config.data_dir={out}" in done.stdout
    sources.run(folder, **PLAIN, output=str(expected))
    for name in ("PREPARED.jsonl", "classes.txt"):
        assert (out / name).read_bytes() == (expected / name).read_bytes()
    assert not list(out.rglob(".*"))


def test_the_command_answers_without_jax(tmp_path):
    code = (
        "import sys, runpy\nsys.argv = ['prepare', '--format=x']\n"
        "try: runpy.run_module('gan_seg_jax.prepare', run_name='__main__')\n"
        "except SystemExit as end: print(end.code, 'jax' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tiny_runs.ROOT, capture_output=True, text=True)
    assert done.stdout.split() == ["2", "False"], done.stderr
    assert done.stderr.startswith("error: Unknown --format 'x'. Known: ")


def test_every_flag_is_read_and_explained():
    names = set(source.Options.__dataclass_fields__)
    assert set(FLAGS) == names == run.COMMON.union(*(module.FLAGS for module in FORMATS.values()))
    assert writer.version()


def test_another_process_is_waited_for(folder, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    import fcntl

    with (out / ".prepare-lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert "Another process is writing" in message(folder)
    sources.run(folder, **PLAIN)
    assert os.listdir(out)


@pytest.mark.slow
def test_what_was_prepared_trains(folder, tmp_path):
    sources.run(folder, **PLAIN, val_fraction=0.25, test_fraction=0.25)
    flags = ["--config=configs/supervised_seg.py:smoke", "--config.dataset=folder", f"--workdir={tmp_path / 'run'}"]
    command = [sys.executable, "-m", "gan_seg_jax.main", *flags, f"--config.data_dir={tmp_path / 'out'}"]
    done = subprocess.run(command, cwd=tiny_runs.ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "miou" in (tmp_path / "run" / "summary.json").read_text()
