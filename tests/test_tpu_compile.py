"""What the real TPU compiler makes of the training step, on a machine without a TPU.

`jax[tpu]` lives in an environment of its own. It is made for the test and removed after it; to keep one, make it with
`pip install -r requirements.txt "jax[tpu]==<version of jax here>"` and set GAN_SEG_TPU_PYTHON to its Python.
"""

import collections
import functools
import json
import math
import os
import pathlib
import re
import shutil
import subprocess
import sys

import jax
import pytest

from gan_seg_jax.planning import slices

pytestmark = pytest.mark.slow

CHIPS = 8
HBM = slices.CHIPS["v5e"].hbm
DTYPES = ("float32", "bfloat16")
# Smoke forms whose steps differ most from each other; the compiler needs one to three minutes for each.
FORMS = (
    "dcgan:joint",
    "synthesis:oasis",
    "semi_seg:advsemiseg",
    "refine_seg:unet",
    "segan:smoke",
    "adapt_seg:multi",
    "augment_seg:pix2pix",
)


@pytest.fixture(scope="module")
def tpu_python(repository, tmp_path_factory):
    """A Python with this jax, libtpu and the requirements."""
    if python := os.environ.get("GAN_SEG_TPU_PYTHON"):
        yield python
        return
    folder = tmp_path_factory.mktemp("tpu")
    python = str(folder / "bin" / "python")
    wanted = f"jax[tpu]=={jax.__version__}"
    try:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True, capture_output=True, timeout=300)
        install = [python, "-m", "pip", "install", "--quiet", "-r", "requirements.txt", wanted]
        subprocess.run(install, cwd=repository, check=True, capture_output=True, text=True, timeout=1200)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        shutil.rmtree(folder, ignore_errors=True)
        pytest.skip(
            f"pip cannot install {wanted} in an environment of its own: {error} {str(error.stderr or '')[-300:]}"
        )
    yield python
    shutil.rmtree(folder, ignore_errors=True)  # about 2 GB


@pytest.fixture(scope="module")
def environment(repository):
    """The variables of a process of its own, without what the tests set for JAX."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("XLA_", "JAX_", "TPU_"))}
    return {**kept, "PYTHONPATH": str(repository)}


@pytest.fixture(scope="module")
def compiled(tpu_python, repository, environment):
    """A function of (dtype, chips, maybe a config) to what `tpu_compile_step.py` prints; each is compiled once."""
    script = repository / "tests" / "tpu_compile_step.py"
    environment = dict(environment)
    slices.pretend(environment)

    @functools.cache
    def compile_for(*arguments):
        command = [tpu_python, script, *map(str, arguments)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1800)
        assert done.returncode == 0, done.stderr[-4000:]
        return json.loads(done.stdout.splitlines()[-1])

    return compile_for


def layers(shapes, pattern):
    """Names of the layers that match."""
    return sorted({name.split("/")[0] for name in shapes if re.fullmatch(pattern, name.split("/")[0])})


def without_ones(shape):
    """The shape without axes of size 1, which the compiler drops at will."""
    return tuple(size for size in shape if size > 1)


@pytest.mark.parametrize("dtype", DTYPES)
def test_step_fits_a_chip_and_donates_its_state(compiled, dtype):
    result = compiled(dtype, CHIPS)
    memory = result["memory"]
    assert 0 < sum(memory.values()) < HBM, memory
    assert memory["outputs"] < 2**20, memory  # only the metrics are new


@pytest.mark.parametrize("name", FORMS)
def test_other_methods_run_on_all_chips(compiled, name):
    """The smoke form, in its last phase: it fits, keeps its state in place and has no collectives but sums over all."""
    result = compiled("bfloat16", CHIPS, f"{name},smoke")
    memory = result["memory"]
    assert sum(memory.values()) < HBM, memory
    assert memory["outputs"] < 2**20, memory
    assert {(found["kind"], found["participants"]) for found in result["collectives"]} == {("all-reduce", CHIPS)}


@pytest.mark.parametrize("dtype", DTYPES)
def test_gradients_are_all_reduced_over_all_chips(compiled, dtype):
    result = compiled(dtype, CHIPS)
    assert {(found["kind"], found["participants"]) for found in result["collectives"]} == {("all-reduce", CHIPS)}
    reduced = [without_ones(shape) for found in result["collectives"] for shape in found["shapes"]]
    parameters = [without_ones(shape) for shapes in result["parameters"].values() for shape in shapes.values()]
    missing = collections.Counter(parameters) - collections.Counter(reduced)
    assert not missing
    # Nothing travels twice but the discriminator's gradients: those of the scores of real and of fake are added after
    # the reduction (each is divided by sigma first, and in bfloat16 cast). What remains is statistics and losses.
    sizes = {role: sum(map(math.prod, shapes.values())) for role, shapes in result["parameters"].items()}
    expected = sizes["generator"] + 2 * sizes["discriminator"]
    assert sum(sizes.values()) <= sum(map(math.prod, reduced)) < 1.02 * expected


@pytest.mark.parametrize("dtype", DTYPES)
def test_batch_statistics_are_those_of_the_global_batch(compiled, dtype):
    """In the forward pass, both moments of every BatchNorm are summed over all chips, in float32."""
    result = compiled(dtype, CHIPS)
    network = {"generator": "UNet", "discriminator": "PatchGAN"}
    for role, statistics in result["statistics"].items():
        normalized = sorted(name.split("/")[0] for name in statistics if name.endswith("/batch/mean"))
        assert normalized or role == "discriminator"  # that one is spectrally normalised
        for name in normalized:
            channels = statistics[f"{name}/batch/mean"]
            found = [
                array
                for one in result["collectives"]
                if f"/jvp({network[role]})/" in one["name"] and f"/{name}/batch/" in one["name"]
                for array in zip(one["dtypes"], one["shapes"], strict=True)
            ]
            assert found.count(("f32", channels)) >= 2, f"{role} {name}"


def test_a_step_costs_three_and_eight_forwards_and_nothing_is_float64(compiled):
    """Alternating: at most 3 G + 8 D, as on a processor (`test_train_step.test_flops_of_a_step`)."""
    result = compiled("float32", 1)
    forwards = result["forwards"]
    assert 0 < result["flops"] < 1.03 * (3 * forwards["generator"] + 8 * forwards["discriminator"]), result["flops"]
    assert result["doubles"] == 0


def test_one_chip_does_the_same_work_without_collectives(compiled):
    one, all_chips = compiled("float32", 1), compiled("float32", CHIPS)
    assert one["collectives"] == []
    assert all_chips["flops"] == pytest.approx(one["flops"], rel=0.02)  # per chip, at as many images a chip


@pytest.mark.parametrize("dtype", DTYPES)
def test_tpu_gets_the_native_convolutions(compiled, dtype):
    """Strided and dilated windows, chosen while compiling; none of the 2x2 windows of the CPU's forms.

    Of a tiny image the compiler may exchange image and kernel, and dilates the right side then.
    """
    result = compiled(dtype, CHIPS)
    assert result["branches"] == 0
    windows = [(found["window"], found["name"]) for found in result["convolutions"]]
    assert not [window for window, _ in windows if window.startswith("size=2x2 ")]
    generator, discriminator = result["parameters"]["generator"], result["parameters"]["discriminator"]
    for part, names in (
        ("hs_dilate=2x2", layers(generator, r"up_\d+|logits")),
        ("stride=2x2", [*layers(generator, r"down_\d+"), *layers(discriminator, "conv_[012]")]),
    ):
        assert names
        for name in names:
            assert [
                found
                for window, found in windows
                if part in window and "transpose(" not in found and f"/{name}/" in found
            ], f"{name} has no convolution with {part}"


def test_plan_of_the_command(tpu_python, repository, environment, tmp_path):
    """As a user runs it: a slice that fits, one whose memory the batch exceeds; a TPU of the machine is not locked."""
    command = [tpu_python, "-m", "gan_seg_jax.plan", "--config=configs/supervised_seg.py:smoke", "--slice=v6e-4"]
    fields = ["--config.num_classes=4", "--config.dtype=bfloat16", "--input_rate=100"]
    lock, plans = pathlib.Path("/tmp/libtpu_lockfile"), []
    locked = lock.exists()
    for per_chip in (2, 2**20):
        output = tmp_path / f"{per_chip}.json"
        words = [*command, *fields, f"--batch_per_chip={per_chip}", f"--json={output}"]
        done = subprocess.run(words, env=environment, cwd=repository, capture_output=True, text=True, timeout=1800)
        assert done.returncode == 0, done.stderr[-4000:]
        plans += json.loads(output.read_text())["slices"]
    small, large = plans
    assert small["fits"] and small["seconds"]["step"] > 0 and set(small["collectives"]) == {"all-reduce"}
    assert small["memory"]["hbm"] == slices.CHIPS["v6e"].hbm
    assert not large["fits"] and large["memory"]["hbm"] == small["memory"]["hbm"] < large["memory"]["total"]
    assert 2 < large["largest_batch_per_chip"] < 2**20
    assert lock.exists() == locked
