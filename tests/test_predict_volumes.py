"""Labelling NIfTI volumes: the slices that `prepare` makes, labels on the grid of the input, areas and volumes."""

import csv
import json
import os

import numpy as np
import pytest
from PIL import Image

from gan_seg_jax.runs import prepared
from tests import red_channel, tiny_runs

nibabel = pytest.importorskip("nibabel", reason="the extra medical is not installed")

SHAPE = (5, 6, 7)  # x to the right, y to the front, z to the head
SPACING = (0.5, 0.75, 3.0)
TURNED = np.array([[0.48, -0.1, 0.3, -90], [0.1, 0.73, 0.2, 12.5], [-0.08, 0.11, 2.97, 7], [0, 0, 0, 1]])  # oblique
GREY = ("--intensity_window=255", "--level=127.5")  # values are grey as they are, and 40 times the class


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A folder with an empty input folder and a run that reads classes off the grey of slices."""
    red_channel.take_place(monkeypatch)
    (tmp_path / "in").mkdir()
    (tmp_path / "run").mkdir()
    return tmp_path


def predict(work, *args, source="in"):
    places = (f"--workdir={work / 'run'}", f"--input={work / source}", f"--output={work / 'out'}")
    return tiny_runs.command("predict", *places, *args)


def known_to_run(work, **given):
    (work / "run" / "PREPARED.json").write_text(json.dumps({"format": "nifti", "version": "1", "flags": given}))


def labels_of(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 3, SHAPE).astype(np.uint8)


def store(path, values, orientation="RAS", affine=None):
    """Write a volume of RAS+ as a scanner of another orientation would have stored it."""
    image = nibabel.Nifti1Image(values, np.diag([*SPACING, 1.0]) if affine is None else affine)
    target = nibabel.orientations.axcodes2ornt(orientation)
    image = image.as_reoriented(nibabel.orientations.ornt_transform(nibabel.io_orientation(image.affine), target))
    image.header.set_xyzt_units("mm", "sec")
    image.header["descrip"] = b"of the image"
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"Jane Doe"))
    path.parent.mkdir(parents=True, exist_ok=True)
    image.to_filename(path)
    return image


def table(path):
    return list(csv.DictReader(path.open()))


def test_labels_lie_on_the_grid_of_the_input(work):
    known_to_run(work, window=255.0, level=127.5, axis="axial")
    cases = {
        "a.nii.gz": ("RAS", None),
        "b.nii": ("LPS", None),
        "deep/c.NII.gz": ("SLA", None),
        "d.nii": ("PIR", TURNED),
    }
    stored = {
        name: store(work / "in" / name, (40 * labels_of(seed)).astype(np.int16), *how)
        for seed, (name, how) in enumerate(cases.items())
    }
    Image.fromarray(np.full((4, 6), 80, np.uint8)).save(work / "in" / "e.png")
    outcome = predict(work, "--areas", "--polygons=geojson")
    assert outcome.code == 0 and "5 of 5 files labelled" in outcome.out, outcome.err
    for name, image in stored.items():
        found = nibabel.load(work / "out" / "masks" / name)
        np.testing.assert_array_equal(np.asarray(found.dataobj), np.asarray(image.dataobj) // 40)
        assert found.get_data_dtype() == np.uint8 and found.shape == image.shape
        np.testing.assert_array_equal(found.affine, nibabel.load(work / "in" / name).affine)
        assert found.header.get_zooms() == image.header.get_zooms()
        assert found.header.get_xyzt_units() == ("mm", "sec") and found.header.get_intent()[0] == "label"
        assert not found.header.extensions and not found.header["descrip"].item()
        sure = np.asarray(nibabel.load(work / "out" / "confidence" / name).dataobj)
        assert sure.shape == image.shape and sure.min() >= 255 // 3
    np.testing.assert_array_equal(np.array(Image.open(work / "out" / "masks" / "e.png")), 2)
    rows = {(row["image"], row["class"]): row for row in table(work / "out" / "areas.csv")}
    assert len(rows) == 3 * (4 * 7 + 1)
    pixels = int((labels_of(1)[:, :, 3] == 2).sum())  # slices are counted from below in every orientation
    row = rows["b.nii/0003", "car"]
    assert (row["pixels"], row["mm2"]) == (str(pixels), f"{pixels * 0.375:.9g}")
    assert row["share"] == f"{pixels / 30:.6f}" and rows["e.png", "car"]["mm2"] == ""
    sums = {(row["volume"], row["class"]): row for row in table(work / "out" / "volumes.csv")}
    assert len(sums) == 3 * 4
    voxels = int((labels_of(2) == 1).sum())
    row = sums["deep/c.NII.gz", "road"]
    assert (row["voxels"], row["mm3"]) == (str(voxels), f"{voxels * 1.125:.9g}")
    found = json.loads((work / "out" / "polygons" / "b.nii" / "0003.geojson").read_text())
    assert sum(part["properties"]["pixels"] for part in found["features"]) == 30


def test_a_killed_command_goes_on(work):
    for seed in range(2):
        store(work / "in" / f"{seed}.nii.gz", (40 * labels_of(seed)).astype(np.int16))
    args = ("--skip_existing", "--axis=axial", "--areas", *GREY)
    assert predict(work, *args).code == 0
    content = {path: path.read_bytes() for path in (work / "out").rglob("*") if path.is_file()}
    assert len(content) == 6
    (work / "out" / "confidence" / "1.nii.gz").unlink()
    times = {path: path.stat().st_mtime_ns for path in (work / "out").rglob("0.nii.gz")}
    outcome = predict(work, *args)
    assert outcome.code == 0 and "1 of 1 files labelled, 1 were there" in outcome.out, outcome.err
    assert {path: path.read_bytes() for path in (work / "out").rglob("*") if path.is_file()} == content
    assert {path: path.stat().st_mtime_ns for path in times} == times


def test_voxels_that_hold_no_number_are_void(work):
    values = (40.0 * labels_of(0)).astype(np.float32)
    values[0, 0, :2], values[1, 1, 1], values[:, :, 6] = np.nan, np.inf, 80  # the last slice is of one value
    store(work / "in" / "a.nii.gz", np.stack([values, -values], axis=-1))
    outcome = predict(work, *GREY, "--axis=2", "--channel=0", "--areas", "--polygons=coco")
    assert outcome.code == 0 and "a.nii.gz: 3 voxels hold no number" in outcome.err, outcome.err
    found = np.asarray(nibabel.load(work / "out" / "masks" / "a.nii.gz").dataobj)
    right = np.where(np.isfinite(values), np.nan_to_num(values, posinf=0) // 40, 255)
    np.testing.assert_array_equal(found, right)
    assert found.shape == SHAPE and (found[:, :, 6] == 2).all()
    rows = table(work / "out" / "areas.csv")
    assert [sum(int(row["pixels"]) for row in rows[3 * n : 3 * n + 3]) for n in range(3)] == [29, 28, 30]
    assert sum(float(row["share"]) for row in rows[:3]) == pytest.approx(1, abs=1e-5)
    coco = json.loads((work / "out" / "polygons.json").read_text())
    assert {found["category_id"] for found in coco["annotations"]} == {0, 1, 2}
    # Percentiles are those of the whole volume, as of `prepare`, and stand in the place of a window.
    known_to_run(work, window=400.0, level=40.0, axis="axial", channel=0)
    values = np.linspace(0, 255, 210, dtype=np.float32).reshape(SHAPE)
    store(work / "in" / "a.nii.gz", values)
    assert predict(work, "--percentiles=0,100").code == 0
    found = np.asarray(nibabel.load(work / "out" / "masks" / "a.nii.gz").dataobj)
    np.testing.assert_array_equal(found, (np.rint(values) > 20).astype(int) + (np.rint(values) > 60))


@pytest.mark.parametrize(
    ("known", "args", "words"),
    [
        ({}, (), "--intensity_window=WIDTH --level=CENTRE"),
        ({}, GREY, "--axis is missing"),
        ({"window": 255.0}, ("--axis=up",), "--axis is 'up'"),
        ({"window": 255.0, "axis": "axial"}, ("--percentiles=9,1",), "expected the lower one first"),
        ({"window": "255", "axis": "axial"}, (), "PREPARED.json has been changed"),
    ],
)
def test_what_is_not_known_is_asked_for(work, known, args, words):
    store(work / "in" / "a.nii.gz", (40 * labels_of(0)).astype(np.int16))
    known_to_run(work, **known)
    outcome = predict(work, *args)
    assert outcome.code == 2 and words in outcome.err and "Traceback" not in outcome.err
    assert not (work / "out").exists()


def test_volumes_that_cannot_be_used(work):
    grey = (40 * labels_of(0)).astype(np.int16)
    store(work / "in" / "good.nii.gz", grey)
    store(work / "in" / "times.nii.gz", np.stack([grey, grey], axis=-1))
    (work / "in" / "text.nii").write_text("no volume")
    (work / "in" / "cut.nii").write_bytes((work / "in" / "good.nii.gz").read_bytes()[:100])
    os.mkfifo(work / "in" / "pipe.nii")
    for name, affine in (("flat", np.diag([0, 0.75, 3, 1])), ("none", np.full((4, 4), np.nan))):
        image = nibabel.Nifti1Image(grey, np.eye(4))
        image.header["sform_code"], image.header["qform_code"] = 1, 0
        image.header["srow_x"], image.header["srow_y"], image.header["srow_z"] = affine[:3]
        nibabel.Nifti1Image(grey, None, image.header).to_filename(work / "in" / f"{name}.nii")
    outcome = predict(work, *GREY, "--axis=axial")
    assert outcome.code == 0 and "1 of 7 files labelled" in outcome.out and "Traceback" not in outcome.err
    for words in ("times.nii.gz: has 2 channels or times; --channel=0 to 1", "pipe.nii: does not exist, or is no"):
        assert f"not done: {work / 'in' / words}" in outcome.err
    for name in ("text", "cut"):
        assert f"{name}.nii: is damaged" in outcome.err
    for name in ("flat", "none"):
        assert f"{name}.nii: does not say how it lies" in outcome.err
    assert sorted(path.name for path in (work / "out").rglob("*.*")) == ["good.nii.gz"] * 2
    outcome = predict(work, *GREY, "--axis=axial", source="in/text.nii")
    assert outcome.code == 2 and "None of the 1 files" in outcome.err


def test_a_run_keeps_how_its_data_were_prepared(work):
    data, run = work / "data", work / "run"
    data.mkdir()
    flags = {"window": 400, "level": 40.0, "axis": "axial", "source": "/private", "class_names": "a,b"}
    (data / "PREPARED.json").write_text(json.dumps({"format": "nifti", "version": "1", "flags": flags}))
    prepared.keep(run, str(data))
    assert prepared.read(run) == {"window": 400, "level": 40.0, "axis": "axial"}
    assert "private" not in (run / "PREPARED.json").read_text()
    (run / "PREPARED.json").unlink()
    for content in ("[]", "{}", '{"format": 1, "version": 2, "flags": 3}', "x"):
        (data / "PREPARED.json").write_text(content)
        prepared.keep(run, str(data))
    prepared.keep(run, "")
    assert prepared.read(run) == {} and not (run / "PREPARED.json").exists()
