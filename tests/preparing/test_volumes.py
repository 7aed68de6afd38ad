"""Volumes: NIfTI with every orientation, DICOM slices, windows, spacing, and patients in one split."""

import gzip
import sys

import numpy as np
import pytest

from gan_seg_jax.data import folder
from gan_seg_jax.errors import InputError
from tests.preparing import sources
from tests.preparing.sources import read, run, save

nibabel = pytest.importorskip("nibabel", reason="the extra medical is not installed")
pydicom = pytest.importorskip("pydicom", reason="the extra medical is not installed")

SHAPE = (5, 6, 7)  # x to the right, y to the front, z to the head
SPACING = (0.5, 0.75, 3.0)
NIFTI = {"format": "nifti", "images": "imagesTr", "masks": "labelsTr", "image_suffix": "_0000"}
NIFTI |= {"axis": "axial", "window": 400, "level": 40, "class_names": "background,liver,tumour"}


def values_of(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(-200, 300, SHAPE).astype(np.int16)


def label_of(seed: int) -> np.ndarray:
    return np.random.default_rng(seed + 50).integers(0, 3, SHAPE).astype(np.uint8)


def grey(values) -> np.ndarray:
    return np.rint(255 * np.clip((values.astype(np.float32) + 160) / 400, 0, 1))


def store(path, values, orientation="RAS", **changes):
    """Write a volume of RAS+ as a scanner of another orientation would have stored it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nibabel.Nifti1Image(values, np.diag([*SPACING, 1.0]))
    target = nibabel.orientations.axcodes2ornt(orientation)
    image = image.as_reoriented(nibabel.orientations.ornt_transform(nibabel.io_orientation(image.affine), target))
    if changes.get("lost"):
        image.header["qform_code"] = image.header["sform_code"] = 0
        image = nibabel.Nifti1Image(np.asarray(image.dataobj), None, image.header)
        image.header["qform_code"] = image.header["sform_code"] = 0
    image.to_filename(path)


@pytest.fixture
def source(tmp_path):
    root = tmp_path / "source"
    for seed, orientation in enumerate(["RAS", "LPS", "SLA", "PIR"]):
        store(root / "imagesTr" / f"liver_{seed}_0000.nii.gz", values_of(seed), orientation)
        store(root / "labelsTr" / f"liver_{seed}.nii.gz", label_of(seed), orientation)
    return root


def message(source, **options) -> str:
    with pytest.raises(InputError) as caught:
        run(source, **({} if "mask_values" in options and "scans" in options.get("images", "") else NIFTI) | options)
    return str(caught.value)


def test_slices_of_every_stored_orientation_are_the_same_view(source, tmp_path):
    found = run(source, **NIFTI)
    out = tmp_path / "out"
    assert len(sources.names(out, "train")) == 4 * 7 and found["values"]["black and white"] == "-160 and 240"
    for seed in range(4):
        for number in range(7):
            image_id = f"liver_{seed}_{number:04d}"
            view = values_of(seed)[::-1, ::-1, number].T  # right on the left, front above
            np.testing.assert_array_equal(read(out, "train", image_id, "images"), grey(view))
            np.testing.assert_array_equal(read(out, "train", image_id), label_of(seed)[::-1, ::-1, number].T)
    rows = (out / "spacing.csv").read_text().splitlines()
    assert rows[:2] == ["split,id,row_mm,column_mm,slice_mm", "train,liver_0_0000,0.75,0.5,3.0"] and len(rows) == 29
    assert folder.open_folder(out).info.class_names == ("background", "liver", "tumour")


@pytest.mark.parametrize(
    ("axis", "view", "spacing"),
    [
        ("coronal", lambda volume, number: volume[::-1, number, ::-1].T, "3.0,0.5,0.75"),
        ("sagittal", lambda volume, number: volume[number, ::-1, ::-1].T, "3.0,0.75,0.5"),
    ],
)
def test_other_axes(source, tmp_path, axis, view, spacing):
    run(source, **{**NIFTI, "axis": axis})
    for seed in range(4):
        np.testing.assert_array_equal(read(tmp_path / "out", "train", f"liver_{seed}_0003"), view(label_of(seed), 3))
    rows = (tmp_path / "out" / "spacing.csv").read_text().splitlines()
    assert all(row.endswith(spacing) for row in rows[1:])


def test_stored_axes_and_volumes_that_do_not_say_how_they_lie(source, tmp_path):
    store(source / "imagesTr" / "liver_0_0000.nii.gz", values_of(0), lost=True)
    store(source / "labelsTr" / "liver_0.nii.gz", label_of(0), lost=True)
    assert "liver_0_0000.nii.gz: does not say how it lies" in message(source)
    run(source, **{**NIFTI, "axis": "0"}, output=str(tmp_path / "b"))
    np.testing.assert_array_equal(read(tmp_path / "b", "train", "liver_0_0002"), label_of(0)[2])


def test_no_patient_is_in_two_splits(source, tmp_path):
    run(source, **NIFTI, val_fraction=0.25, test_fraction=0.25)
    sides = {split: {name[:7] for name in sources.names(tmp_path / "out", split)} for split in ("train", "val", "test")}
    assert [len(sides[split]) for split in ("train", "val", "test")] == [2, 1, 1]
    assert len(set.union(*sides.values())) == 4
    (source / "val.txt").write_text("liver_3\n")
    (source / "train.txt").write_text("liver_1\nliver_2\n")
    run(source, **NIFTI, lists="train=train.txt,val=val.txt", output=str(tmp_path / "b"))
    assert {name[:7] for name in sources.names(tmp_path / "b", "val")} == {"liver_3"}
    (source / "val.txt").write_text("liver_3_0001\n")
    (source / "train.txt").write_text("liver_3_0002\n")
    options = {"lists": "train=train.txt,val=val.txt", "output": str(tmp_path / "c")}
    assert "are of one group" in message(source, **options)


def test_percentiles_channels_and_values_that_are_none(source, tmp_path):
    values = values_of(0).astype(np.float32)
    values[:, :, 0] = 7
    values[0, 0, 1] = np.nan
    store(source / "imagesTr" / "liver_0_0000.nii.gz", np.stack([values, values * 3], axis=-1))
    options = {"window": 0, "percentiles": "5,95"}
    assert "has 2 channels or times; --channel=0 to 1" in message(source, **options)
    found = message(source, **options, channel=1, output=str(tmp_path / "c"))
    assert "liver_3_0000.nii.gz: has 1 channels" in found and "3 problems" in found
    for seed in range(1, 4):
        (source / "imagesTr" / f"liver_{seed}_0000.nii.gz").unlink()
    found = run(source, **{**NIFTI, **options}, channel=1, output=str(tmp_path / "b"))
    low, high = np.percentile(3 * values[np.isfinite(values)], (5, 95))
    expected = np.rint(255 * np.clip((3 * values[::-1, ::-1, 3].T - low) / (high - low), 0, 1))
    made = read(tmp_path / "b", "train", "liver_0_0003", "images")
    assert np.abs(made.astype(float) - expected).max() <= 1
    assert found["left_out"]["slices of a single value"]["such_as"] == ["train/liver_0_0000"]
    assert found["notes"] == {"void_where_values_are_not_finite": 1}
    assert read(tmp_path / "b", "train", "liver_0_0001")[-1, -1] == 255


def test_volumes_that_do_not_fit(source, tmp_path):
    outs = iter(str(tmp_path / f"out{number}") for number in range(9))
    store(source / "labelsTr" / "liver_1.nii.gz", label_of(1)[:4], "LPS")
    assert "labelsTr/liver_1.nii.gz: is of shape (4, 6, 7), its image of (5, 6, 7)" in message(
        source, output=next(outs)
    )
    store(source / "labelsTr" / "liver_1.nii.gz", label_of(1), "RAS")
    assert "lies elsewhere in space" in message(source, output=next(outs))
    store(source / "labelsTr" / "liver_1.nii.gz", label_of(1) + 0.5, "LPS")
    assert "holds numbers with a fraction" in message(source, output=next(outs))
    store(source / "labelsTr" / "liver_1.nii.gz", label_of(1) + 1, "LPS")
    assert "(value 3): numbers outside of the 3 classes" in message(source, output=next(outs))
    path = source / "imagesTr" / "liver_1_0000.nii.gz"
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:-9]))
    assert "imagesTr/liver_1_0000.nii.gz: is damaged or cut short" in message(source, output=next(outs))
    path.write_bytes(b"no volume")
    assert "imagesTr/liver_1_0000.nii.gz: is damaged or cut short" in message(source, output=next(outs))
    found = run(source, **NIFTI, skip_damaged=True, output=next(outs))
    assert [part["such_as"] for part in found["left_out"].values()] == [["train/liver_1_0000"]]
    path.unlink()
    found = run(source, **NIFTI, output=next(outs))
    assert found["left_out"]["masks without an image"]["such_as"] == ["labelsTr/liver_1.nii.gz"]
    (source / "labelsTr" / "liver_2.nii.gz").unlink()
    assert "image without a mask" in message(source, output=next(outs))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"axis": ""}, "--axis is missing; expected one of: axial, coronal, sagittal, 0, 1, 2"),
        ({"window": 0.0}, "--window=WIDTH --level=CENTRE"),
        ({"percentiles": "1,99"}, "give one of them"),
        ({"window": 0.0, "percentiles": "99,1"}, "expected the lower one first"),
        ({"window": 0.0, "percentiles": "1"}, "expected 2 numbers from 0 to 100"),
        ({"mask_values": "binary"}, "--mask_values is not read with --format=nifti"),
    ],
)
def test_flags_of_volumes(source, options, words):
    assert words in message(source, **options)


@pytest.mark.parametrize("module", ["nibabel", "pydicom"])
def test_without_the_packages(source, monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    options = {"axis": ""} if module == "pydicom" else {}
    found = message(source, format="dicom" if module == "pydicom" else "nifti", **{"axis": "axial", **options})
    assert found == f'This format needs {module}, which is not installed: pip install "gan_seg_jax[medical]".'


DICOM = {"format": "dicom", "images": "scans", "masks": "masks", "window": 400, "level": 40}
DICOM |= {"mask_values": "binary", "class_names": "background,liver"}


def dicom(path, stored, patient, **fields):
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = pydicom.uid.CTImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = pydicom.uid.generate_uid()
    dataset.PatientID, dataset.PatientName = patient, "Secret^Name"
    dataset.Rows, dataset.Columns = stored.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation = 15, 0
    dataset.RescaleSlope, dataset.RescaleIntercept = 1, -1024
    dataset.PixelSpacing, dataset.SliceThickness = [0.7, 0.8], 5
    dataset.PixelData = stored.astype(np.uint16).tobytes()
    for name, value in fields.items():
        setattr(dataset, name, value)
    dataset.save_as(path, enforce_file_format=True)


def stored_of(seed):
    return np.random.default_rng(seed).integers(824, 1324, (6, 8))


@pytest.fixture
def scans(tmp_path):
    root = tmp_path / "source"
    for seed in range(8):
        name = f"case{seed // 2}/IM{seed:04d}"
        dicom(root / "scans" / f"{name}.dcm", stored_of(seed), f"patient {seed % 4}")
        save(root / "masks" / f"{name}.png", 255 * (stored_of(seed) % 2))
    dicom(root / "scans" / "DICOMDIR", stored_of(9), "patient 9")
    (root / "scans" / "readme.txt").write_text("x")
    return root


def test_dicom(scans, tmp_path):
    inverted = {"PhotometricInterpretation": "MONOCHROME1"}
    dicom(scans / "scans" / "case0" / "IM0001.dcm", stored_of(1), "patient 1", **inverted)
    found = run(scans, **DICOM, val_fraction=0.25, test_fraction=0.25)
    out = tmp_path / "out"
    sides = {name: split for split in ("train", "val", "test") for name in sources.names(out, split)}
    assert [list(sides.values()).count(split) for split in ("train", "val", "test")] == [4, 2, 2]
    for seed in range(4):
        first, second = (f"case{each // 2}__IM{each:04d}" for each in (seed, seed + 4))
        assert sides[first] == sides[second]  # the same patient, in two studies
    picture = read(out, sides["case0__IM0000"], "case0__IM0000", "images")
    np.testing.assert_array_equal(picture, grey(stored_of(0) - 1024))
    picture = read(out, sides["case0__IM0001"], "case0__IM0001", "images")
    np.testing.assert_array_equal(picture, 255 - grey(stored_of(1) - 1024))
    np.testing.assert_array_equal(read(out, sides["case1__IM0003"], "case1__IM0003"), stored_of(3) % 2)
    assert "case0__IM0000,0.7,0.8,5.0" in (out / "spacing.csv").read_text()
    assert found["left_out"]["files that are no DICOM"]["such_as"] == [
        "scans/DICOMDIR",
        "scans/readme.txt",
    ]
    for path in out.rglob("*"):
        assert path.is_dir() or (b"Secret" not in path.read_bytes() and b"patient" not in path.read_bytes())


def test_dicom_masks_and_slices_that_do_not_fit(scans, tmp_path):
    outs = iter(str(tmp_path / f"out{number}") for number in range(9))
    ids = {**DICOM, "mask_values": "ids"}
    for seed in range(8):
        (scans / "masks" / f"case{seed // 2}" / f"IM{seed:04d}.png").unlink()
        path = scans / "masks" / f"case{seed // 2}" / f"IM{seed:04d}.dcm"
        dicom(path, stored_of(seed) % 2, "", RescaleIntercept=0)
    run(scans, **ids, output=str(tmp_path / "a"))
    np.testing.assert_array_equal(read(tmp_path / "a", "train", "case1__IM0003"), stored_of(3) % 2)
    image = scans / "scans" / "case0" / "IM0000.dcm"
    dicom(image, stored_of(0), "")
    found = message(scans, **ids, axis="", output=next(outs))
    assert "IM0000.dcm: has no PatientID; --group_pattern" in found
    run(scans, **ids, group_pattern="^(case\\d)__", val_fraction=0.25, output=next(outs))
    dicom(image, stored_of(0), "p", NumberOfFrames=2)
    assert "IM0000.dcm: holds 2 pictures" in message(scans, **ids, axis="", output=next(outs))
    dicom(image, stored_of(0)[:5], "p")
    found = message(scans, **ids, axis="", output=next(outs))
    assert "masks/case0/IM0000.dcm (6 x 8, image 5 x 8): mask of another size" in found
    dicom(image, stored_of(0), "p")
    image.write_bytes(image.read_bytes()[:-20])
    found = run(scans, **ids, skip_damaged=True, output=next(outs))
    assert [part["such_as"] for part in found["left_out"].values()][-1] == ["train/case0__IM0000"]
    dicom(image, stored_of(0), "p", PixelData=b"\0\0")
    assert "IM0000.dcm: is damaged or cannot be decoded" in message(scans, **ids, axis="", output=next(outs))
    assert "--percentiles is not read" in message(scans, **ids, axis="", percentiles="1,99", output=next(outs))
