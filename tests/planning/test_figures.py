"""A plan in figures and as text, of steps that nobody has compiled for a TPU."""

import types

import pytest

from configs import supervised_seg
from gan_seg_jax.errors import InputError
from gan_seg_jax.planning import figures, program, slices, text
from tests.planning.test_hlo import TEXT

SLICE = slices.named("v5e-8")
GIB = 2**30


def _config():
    config = supervised_seg.get_config("smoke")
    config.batch_size = 64
    program.use_classes(config, 19)
    return config.lock()


@pytest.fixture(scope="module")
def config():
    return _config()


def compiled():
    """What JAX returns for a program, as far as a plan reads it."""
    memory = types.SimpleNamespace(
        argument_size_in_bytes=GIB,
        output_size_in_bytes=GIB // 2,
        alias_size_in_bytes=GIB // 2,
        temp_size_in_bytes=4 * GIB,
        generated_code_size_in_bytes=0,
    )
    moved = f"ENTRY %main () -> f32[] {{\n  %copy = u8[{819_000_000_000 // 50}]{{0}} copy(%elsewhere)\n}}\n"
    cost = {"flops": 197e12 / 100, "bytes accessed": 1e15}
    return types.SimpleNamespace(
        memory_analysis=lambda: memory, cost_analysis=lambda: cost, as_text=lambda: TEXT + moved
    )


def _plan(config, monkeypatch, outcome, rate=0.0):
    def compile_last_phase(config, chips):
        if isinstance(outcome, Exception):
            raise outcome
        return outcome, figures.start.state_shapes(figures.get_method(config), config)

    monkeypatch.setattr(program, "compile_last_phase", compile_last_phase)
    monkeypatch.setattr(program, "devices", lambda where: [None] * where.chips)
    return figures.on_slice(config, SLICE, rate, measured=False)


def test_figures_follow_from_the_compiled_step_and_the_data_sheet(config, monkeypatch):
    found = _plan(config, monkeypatch, compiled(), rate=1000.0)
    assert (found["fits"], found["memory"]["total"], found["batch_per_chip"]) == (True, 5 * GIB, 8)
    assert found["largest_batch_per_chip"] == 16  # of 15.75 GiB
    assert found["flops"] == pytest.approx(8 * found["flops_per_chip"])
    assert found["collectives"]["all-reduce"] == {"count": 2, "bytes": 64 * 4 + 3 * 3 * 16 * 32 * 2 + 4}
    assert found["seconds"]["step"] == pytest.approx(0.02, rel=0.01) and found["bound"] == "traffic"
    assert found["images_per_second"] == pytest.approx(64 / 0.02, rel=0.01)
    assert found["share_of_peak"] == pytest.approx(0.5, rel=0.01)
    assert found["input"]["images_read_a_step"] == 64 and found["input"]["seconds"] == pytest.approx(0.064)
    shown = text.lines(found)
    assert "5.00 of 15.75 GiB per chip; 16 images per chip probably fit" in shown
    assert "at every batch the chips wait for it" in shown


def test_the_input_is_left_out_where_its_rate_is_not_known(config, monkeypatch):
    found = _plan(config, monkeypatch, compiled())
    assert "input" not in found and "--input_rate" in text.lines(found)


def test_what_does_not_fit_is_said_with_a_batch_that_probably_does(config, monkeypatch):
    found = _plan(config, monkeypatch, program.TooLargeError(40 * GIB, 16 * GIB))
    assert not found["fits"] and "seconds" not in found
    assert "does not fit; 2 per chip (--batch_per_chip=2)" in text.lines(found)
    assert "does not fit" in text.table([found]).splitlines()[1]
    assert "smaller batch" in text.lines(_plan(config, monkeypatch, program.TooLargeError(0, 0)))


def test_a_table_has_a_row_for_each_slice(config, monkeypatch):
    found = _plan(config, monkeypatch, compiled(), rate=1e6)
    header, row, again = text.table([found, found | {"slice": "v6e-8"}]).splitlines()
    assert row.split()[:4] == ["v5e-8", "8", "1", "64"] and row.endswith("never") and again.startswith("v6e-8")
    assert header.index("bound by") == row.index("traffic")


def test_the_heading_counts_parameters_and_names_the_step(config):
    found = figures.of_config(config)
    shown = text.heading(found)
    assert f"segmenter {found['parameters']['segmenter']:,}" in shown and "19 classes" in shown
    assert found["parameters"]["segmenter"] > 1000


def test_a_batch_has_the_shapes_that_the_pipeline_delivers(config):
    stream = program.batch_shapes(figures.get_method(config), config)["labelled"]
    assert stream["image"].shape == (64, *config.canvas_size, 3) and stream["image"].dtype == "uint8"
    assert stream["label"].shape == (64, *config.canvas_size) and stream["content"].shape == (64, 2)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 33.50G of 15.75G hbm.", (33.5, 15.75)),
        ("RESOURCE_EXHAUSTED: (512.00G) exceeds available HBM (31.25G).", (512.0, 31.25)),
        ("RESOURCE_EXHAUSTED: something else", (0.0, 0.0)),
    ],
)
def test_the_compiler_s_words_for_too_little_memory(message, expected):
    found = program.too_large(message)
    assert (found.needed / GIB, found.there / GIB) == pytest.approx(expected)
    assert program.too_large("UNIMPLEMENTED: sorting") is None


@pytest.mark.parametrize("count", [1, 256])
def test_classes_that_no_training_has(count):
    with pytest.raises(InputError, match="num_classes"):
        program.use_classes(supervised_seg.get_config("smoke"), count)
