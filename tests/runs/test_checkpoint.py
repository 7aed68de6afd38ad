"""Checkpoints: bit-exact, verified, the right ones kept; damage is noticed and an earlier one used."""

import contextlib
import functools
import json
import os
import shutil
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import cgan_seg
from gan_seg_jax.config import to_json
from gan_seg_jax.errors import InputError
from gan_seg_jax.runs import integrity
from gan_seg_jax.runs.checkpoint import (
    Checkpoints,
    fill,
    load_checkpoint,
    network_variables,
    read_config,
    restore_networks,
)
from gan_seg_jax.runs.integrity import array_digest, flatten, state_digest
from gan_seg_jax.state import create_state
from tests.tiny_methods import Net


@functools.cache
def modules():
    return {"generator": Net(3), "discriminator": Net(1, norm=False)}


ADAM = optax.adam(1e-3)


def make_state(seed: int = 0):
    """Return a state of random numbers with an average, Adam's moments, statistics and one network that is frozen."""
    x = jnp.zeros((1, 4, 4, 3))
    variables = {role: module.init(jax.random.key(0), x, train=False) for role, module in modules().items()}
    state = create_state(variables, modules(), {"generator": ADAM}, seed=7, ema_roles=frozenset({"generator"}))
    draw = np.random.default_rng(seed)
    return jax.tree.map(lambda x: (100 * draw.normal(size=x.shape)).astype(x.dtype), state)


def meta_of(step: int, best: int | None = None):
    more = {"best_scores": {"miou": 0.1 + 0.2}, "evaluated": step, "seconds": 1.5, "data": {}}
    return {"step": step, "best_step": best, **more}


def write(folder, steps, *, best=None, keep: int = 2):
    """Save a state for each step (its seed) and return them."""
    states = {step: make_state(step) for step in steps}
    checkpoints = Checkpoints(folder, keep=keep)
    for step, state in states.items():
        checkpoints.save(step, state, meta_of(step, best if best is None or best <= step else None))
    checkpoints.close()
    return states


def data_files(folder: Path, step: int) -> list[Path]:
    """Return the files that hold a checkpoint's arrays; small arrays lie in `d`, large ones in a process's own `d`."""
    return [path for path in (folder / "checkpoints" / str(step) / "state").rglob("d/*") if path.is_file()]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A run with checkpoints 10, 20 and 30, of which 10 is the best."""
    folder = tmp_path_factory.mktemp("run")
    return folder, write(folder, (10, 20, 30), best=10)


@pytest.fixture
def run(saved, tmp_path):
    """A copy of it that may be damaged."""
    shutil.copytree(saved[0], tmp_path / "run")
    return tmp_path / "run", saved[1]


def test_round_trip_is_bit_exact(saved):
    folder, states = saved
    checkpoints = Checkpoints(folder, read_only=True)
    arrays, meta = checkpoints.load(20)
    restored = fill(make_state(99), arrays, origin="test")
    assert state_digest(restored) == state_digest(states[20])
    assert jax.tree.structure(restored) == jax.tree.structure(states[20])
    for path, leaf in flatten(restored).items():
        assert leaf.dtype == np.asarray(flatten(states[20])[path]).dtype, path
    assert {name: meta[name] for name in meta_of(20)} == meta_of(20, 10)
    checkpoints.close()


def test_odd_bits_survive(tmp_path):
    values = {
        "floats": np.array([-0.0, np.nan, np.inf, 1e-45, 0.1], np.float32),
        "bytes": np.arange(256, dtype=np.uint8),
        "seed": np.uint32(2**32 - 1),
        "half": jnp.arange(3, dtype=jnp.bfloat16),
    }
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, values, meta_of(1))
    checkpoints.wait()
    arrays, _ = checkpoints.load(1)
    for name, value in values.items():
        assert np.asarray(value).tobytes() == arrays[name].tobytes(), name
    checkpoints.close()


def test_saving_copies_before_the_buffers_go(tmp_path):
    state = jax.device_put(make_state(1))
    digest = state_digest(state)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, state, meta_of(1))
    jax.jit(lambda s: jax.tree.map(lambda x: x + 1, s), donate_argnums=(0,))(state)
    checkpoints.wait()
    assert state_digest(fill(make_state(2), checkpoints.load(1)[0], origin="test")) == digest
    checkpoints.close()


def test_digests_see_type_shape_and_every_bit():
    array = np.arange(6, dtype=np.float32)
    others = [
        array.reshape(2, 3),
        array.astype(np.int32),
        array[::-1],
        np.where(array == 0, -0.0, array).astype(np.float32),
    ]
    assert len({array_digest(other) for other in [array, *others]}) == 5
    assert array_digest(array) == array_digest(array[::-1][::-1])
    assert state_digest({"a": array, "b": array + 1}) != state_digest({"a": array + 1, "b": array})


def test_the_newest_and_the_best_are_kept(tmp_path):
    write(tmp_path, (1, 2, 3, 4, 5, 6), best=2, keep=2)
    checkpoints = Checkpoints(tmp_path, read_only=True)
    assert checkpoints.steps() == [2, 5, 6]
    checkpoints.close()


def test_the_best_stays_after_a_restart(tmp_path):
    write(tmp_path, (1, 2, 3), best=1, keep=1)
    checkpoints = Checkpoints(tmp_path, keep=1)
    _, meta, _ = checkpoints.load_latest()
    checkpoints.save(4, make_state(4), {**meta_of(4), "best_step": meta["best_step"]})
    checkpoints.save(5, make_state(5), meta_of(5, best=5))
    checkpoints.wait()
    assert checkpoints.steps() == [5]
    checkpoints.close()


def test_a_checkpoint_is_replaced(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    for seed in (1, 2):
        checkpoints.save(5, make_state(seed), meta_of(5))
    checkpoints.wait()
    assert checkpoints.steps() == [5]
    assert state_digest(fill(make_state(0), checkpoints.load(5)[0], origin="test")) == state_digest(make_state(2))
    checkpoints.close()


def test_nothing_there(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.load_latest() is None
    with pytest.raises(InputError, match=r"no checkpoint of step 3 .*there are: none"):
        checkpoints.load(3)
    checkpoints.close()


def test_the_folder_is_a_folder(tmp_path):
    place = tmp_path / "checkpoints"
    for make in (lambda: place.symlink_to(place), lambda: place.symlink_to("nowhere"), lambda: os.mkfifo(place)):
        make()
        with pytest.raises(InputError, match="checkpoints is no folder"):
            Checkpoints(tmp_path)
        place.unlink()


def flip(folder, step):
    for path in data_files(folder, step):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)


def test_no_flipped_bit_is_taken_for_an_array(run):
    """Wherever a bit flips, the arrays come back as they were saved or not at all."""
    folder, states = run
    expected, noticed = state_digest(states[30]), set()
    for path in sorted((folder / "checkpoints" / "30").rglob("*")):
        if not path.is_file():
            continue
        content = path.read_bytes()
        for part in (1, 2, 3):
            damaged = bytearray(content)
            damaged[len(content) * part // 4] ^= 4
            path.write_bytes(damaged)
            try:
                arrays, _ = load_checkpoint(folder, "30")
                assert state_digest(fill(make_state(0), arrays, origin="test")) == expected, path
            except InputError:
                noticed.add(path)
        path.write_bytes(content)
    assert set(data_files(folder, 30)) & noticed
    assert load_checkpoint(folder, "30")[1]["step"] == 30


def truncate(folder, step):
    for path in data_files(folder, step):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def lose_the_arrays(folder, step):
    shutil.rmtree(folder / "checkpoints" / str(step) / "state")


def lose_the_files(folder, step):
    for path in data_files(folder, step):
        path.unlink()


def lose_the_meta(folder, step):
    shutil.rmtree(folder / "checkpoints" / str(step) / "meta")


def empty(folder, step):
    shutil.rmtree(folder / "checkpoints" / str(step))
    (folder / "checkpoints" / str(step)).mkdir()


def swap_a_digest(folder, step):
    path = next((folder / "checkpoints" / str(step) / "meta").rglob("metadata"))
    meta = json.loads(path.read_text())
    meta["digests"][next(iter(meta["digests"]))] = "0" * 64
    path.write_text(json.dumps(meta))


DAMAGES = [flip, truncate, lose_the_arrays, lose_the_files, lose_the_meta, empty, swap_a_digest]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda f: f.__name__)
def test_damage_is_noticed_and_an_earlier_one_used(run, damage):
    folder, states = run
    damage(folder, 30)
    checkpoints = Checkpoints(folder)
    arrays, meta, problems = checkpoints.load_latest()
    assert meta["step"] == 20
    assert state_digest(fill(make_state(0), arrays, origin="test")) == state_digest(states[20])
    assert len(problems) == 1
    assert str(folder / "checkpoints" / "30") in problems[0]
    assert len(problems[0]) < 600
    assert (folder / "checkpoints" / "damaged-30").is_dir()
    assert checkpoints.steps() == [10, 20]
    # The run goes on to the same step again.
    checkpoints.save(30, states[30], meta_of(30, 10))
    checkpoints.wait()
    assert state_digest(fill(make_state(0), checkpoints.load(30)[0], origin="test")) == state_digest(states[30])
    checkpoints.close()
    Checkpoints(folder).close()
    assert (folder / "checkpoints" / "damaged-30").is_dir()


def test_all_damaged(run):
    """The folder is refused until somebody has looked at it: at the next start, too, nothing begins anew in it."""
    folder, _ = run
    for step in (10, 20, 30):
        flip(folder, step)
    for found in ("30 .*damaged|30 cannot be read", "damaged-10"):
        checkpoints = Checkpoints(folder)
        with pytest.raises(InputError, match=rf"No checkpoint in .* can be used.*({found}).*Remove {folder} to start"):
            checkpoints.load_latest()
        checkpoints.close()


def test_reading_moves_nothing_and_says_which_is_used(run, capsys):
    folder, _ = run
    flip(folder, 30)
    before = sorted(path.name for path in (folder / "checkpoints").iterdir())
    _, meta = load_checkpoint(folder, "latest")
    assert meta["step"] == 20
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == before
    said = capsys.readouterr().err
    assert str(folder / "checkpoints" / "30") in said and "The one of step 20 takes its place" in said
    with pytest.raises(InputError, match="30 .*Another one can be named: --checkpoint=latest"):
        load_checkpoint(folder, "30")


@pytest.mark.parametrize(("summary", "said"), [('{"steps": 30}', True), ('{"steps": 20}', False), ("[]", False)])
def test_a_finished_run_whose_last_checkpoint_is_gone_is_told(run, capsys, summary, said):
    folder, _ = run
    (folder / "summary.json").write_text(summary)
    assert load_checkpoint(folder, "latest")[1]["step"] == 30 and not capsys.readouterr().err
    shutil.rmtree(folder / "checkpoints" / "30")
    assert load_checkpoint(folder, "latest")[1]["step"] == 20
    sentence = "ended at step 30, whose checkpoint is gone. The one of step 20 takes its place."
    assert (sentence in capsys.readouterr().err) == said


def change_meta(folder, step, change):
    path = folder / "checkpoints" / str(step) / "meta" / "metadata"
    meta = json.loads(path.read_text())
    change(meta)
    path.write_text(json.dumps(meta))


@pytest.mark.parametrize(
    "change",
    [
        lambda meta: meta.update(step=10**9),
        lambda meta: meta.update(best_step=20),
        lambda meta: meta.pop("seconds"),
        lambda meta: meta["best_scores"].update(miou=0.9),
        lambda meta: meta.update(more=1),
        lambda meta: meta.update(integrity.seal({**meta, "step": 31})),
        lambda meta: meta.update(sha256=None),
    ],
)
def test_a_meta_is_what_was_saved(run, change):
    folder, _ = run
    change_meta(folder, 30, change)
    with pytest.raises(integrity.Damaged, match="30 is damaged: (its meta differs|it was saved at step 31)"):
        load_checkpoint(folder, "30")
    assert load_checkpoint(folder, "latest")[1]["step"] == 20


@pytest.mark.parametrize("left_out", ["digests", "step", "best_step", "data"])
def test_a_meta_of_another_author_is_refused(run, left_out):
    folder, _ = run

    def change(meta):
        for name in (left_out, integrity.SEAL):
            del meta[name]
        meta.update(integrity.seal(meta))

    change_meta(folder, 30, change)
    with pytest.raises(InputError, match="has another meta than this version"):
        load_checkpoint(folder, "latest")


def test_no_flipped_bit_of_a_meta_is_accepted(run):
    folder, _ = run
    path = folder / "checkpoints" / "30" / "meta" / "metadata"
    content = path.read_bytes()
    meaning = json.loads(content)
    for place in range(0, len(content), 7):
        damaged = bytearray(content)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        with contextlib.suppress(InputError):
            assert integrity.open_meta(path.parents[1]) == meaning, place


def test_a_checkpoint_of_an_earlier_version_stays_where_it_is(run):
    folder, _ = run
    change_meta(folder, 30, lambda meta: meta.pop("sha256"))
    checkpoints = Checkpoints(folder)
    with pytest.raises(InputError, match="30 has no digest of its meta: an earlier version"):
        checkpoints.load_latest()
    assert checkpoints.steps() == [10, 20, 30]
    checkpoints.close()


@pytest.mark.parametrize("kind", ["pipe", "link"])
def test_a_checkpoint_holds_regular_files_only(run, kind):
    folder, _ = run
    path = next(iter(data_files(folder, 30)))
    content = path.read_bytes()
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    else:
        (folder / "outside").write_bytes(content)
        path.symlink_to(folder / "outside")
    with pytest.raises(integrity.Damaged, match="30 is damaged: .* is no regular file"):
        load_checkpoint(folder, "30")


def test_a_small_file_cannot_ask_for_much_memory(tmp_path):
    """Zeros compress to nothing, and so does what is allocated for them before anything is compared."""
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, {"networks/generator/params/k": np.zeros((30_000, 1500), np.float32)}, meta_of(1))
    checkpoints.close()
    assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) < 10**6
    limit = integrity.room({"k": jax.ShapeDtypeStruct((300, 15), jnp.float32)})
    with pytest.raises(InputError, match="its arrays take 180 MB, and the networks .* explain at most 67 MB"):
        load_checkpoint(tmp_path, "latest", limit=limit)
    with pytest.raises(InputError, match="another architecture"):
        restore_networks(tmp_path, ("generator",), "latest", limit=limit)


def test_arrays_of_optimizers_are_read_for_training_alone(saved):
    arrays, _ = load_checkpoint(saved[0], "30", training=False)
    everything, _ = load_checkpoint(saved[0], "30")
    assert {path for path in everything if "/opt_state/" not in path} == set(arrays) < set(everything)


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
def test_a_damaged_restore_prints_no_tracebacks(tmp_path, capfd):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, {f"a{number}": np.arange(1200.0) for number in range(40)}, meta_of(1))
    checkpoints.close()
    flip(tmp_path, 1)
    with pytest.raises(InputError):
        load_checkpoint(tmp_path, "1")
    time.sleep(0.2)  # futures of other threads
    assert capfd.readouterr() == ("", "")


def test_a_folder_that_goes_while_a_run_writes_is_said(tmp_path):
    for gone in ("checkpoints", "checkpoints/1", "."):
        folder = tmp_path / gone.replace("/", "-") / "run"
        checkpoints = Checkpoints(folder)
        checkpoints.save(1, make_state(1), meta_of(1))
        checkpoints.wait()
        shutil.rmtree(folder / gone)
        with pytest.raises(InputError, match=r"checkpoints/1 is gone"):
            checkpoints.save(2, make_state(2), meta_of(2))
        with contextlib.suppress(InputError):
            checkpoints.close()


def test_a_folder_that_goes_before_the_first_save_is_said(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path / "run")

    def fail(*args, **options):
        raise FileNotFoundError(2, "No such file or directory", "x")

    monkeypatch.setattr(checkpoints._manager, "save", fail)
    with pytest.raises(InputError, match="A checkpoint cannot be written to .*run/checkpoints: FileNotFoundError"):
        checkpoints.save(1, make_state(1), meta_of(1))


@pytest.mark.parametrize(("which", "step"), [("best", 10), ("latest", 30), ("20", 20)])
def test_which_checkpoint(saved, which, step):
    _, meta = load_checkpoint(saved[0], which)
    assert meta["step"] == step


@pytest.mark.parametrize(
    ("which", "message"),
    [
        ("15", "no checkpoint of step 15 .*: 10, 20, 30"),
        ("bets", "'bets'; expected best, latest or a step"),
        ("-1", "'-1'"),
    ],
)
def test_which_checkpoint_is_unknown(saved, which, message):
    with pytest.raises(InputError, match=message):
        load_checkpoint(saved[0], which)


def test_a_folder_without_checkpoints(tmp_path):
    with pytest.raises(InputError, match="holds no checkpoints yet"):
        load_checkpoint(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(InputError, match="holds no checkpoints yet"):
        load_checkpoint(tmp_path)


def test_fill_names_what_differs():
    template = {"a": {"kernel": np.zeros((2, 3)), "bias": np.zeros(3)}}
    good = {"a/kernel": np.ones((2, 3)), "a/bias": np.ones(3)}
    assert fill(template, good, origin="X")["a"]["bias"].sum() == 3
    with pytest.raises(InputError, match=r"X is of another architecture: it lacks a/bias \(1 in all\)\."):
        fill(template, {"a/kernel": np.ones((2, 3))}, origin="X")
    with pytest.raises(InputError, match=r"it has a/more \(1 in all\)\."):
        fill(template, {**good, "a/more": np.ones(1)}, origin="X")
    with pytest.raises(InputError, match=r"a/kernel is \(2, 4\), expected \(2, 3\)"):
        fill(template, {**good, "a/kernel": np.ones((2, 4))}, origin="X")


def test_networks_of_another_run_are_averages_where_it_has_them(saved):
    folder, states = saved
    found = restore_networks(folder, ("generator", "discriminator"), "latest")
    generator, discriminator = states[30].networks["generator"], states[30].networks["discriminator"]
    expected = {
        "generator": {"params": generator.ema_params, "batch_stats": generator.ema_batch_stats},
        "discriminator": {"params": discriminator.params},
    }
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    with pytest.raises(InputError, match="has no segmenter; it has: discriminator, generator"):
        restore_networks(folder, ("segmenter",))


def test_network_variables_without_an_average():
    arrays = {
        "networks/a/params/k": np.ones(1),
        "networks/a/collections/batch_stats/m": np.zeros(1),
        "step": np.ones(()),
    }
    assert network_variables(arrays, "a", origin="X") == {"params": {"k": 1}, "batch_stats": {"m": 0}}


def test_read_config(tmp_path):
    with pytest.raises(InputError, match="is not the folder of a run"):
        read_config(tmp_path)
    config = cgan_seg.get_config().lock()
    (tmp_path / "config.json").write_text(json.dumps(to_json(config)))
    assert read_config(tmp_path) == config
    (tmp_path / "config.json").write_text('{"seed": ')
    with pytest.raises(InputError, match="cannot be read: JSONDecodeError"):
        read_config(tmp_path)
