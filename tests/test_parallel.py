"""One device and four agree; what cannot be shared evenly is refused; sums over processes are exact."""

import functools
import os
import socket
import subprocess
import sys

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec

from configs import cgan_seg, common
from gan_seg_jax import parallel
from gan_seg_jax.errors import InputError
from gan_seg_jax.inference.load import example_batch
from gan_seg_jax.methods import cgan
from gan_seg_jax.models.convolution import NHWC
from gan_seg_jax.planning import hlo
from gan_seg_jax.state import create_state, init_variables
from gan_seg_jax.train_step import train_step
from tests.tiny_methods import CASES

D, G = "discriminator", "generator"


@functools.cache
def small_run():
    """Return config, modules and variables of a small `configs/cgan_seg.py`."""
    config = cgan_seg.get_config()
    config.num_classes, config.canvas_size, config.crop_size = 3, (32, 32), (32, 32)
    config.networks.generator = common.unet(channels=(4, 6), encoder_convs=0, decoder_convs=0)
    config.networks.discriminator = common.patchgan(channels=4, layers=1)
    modules = cgan.build(config)
    return config, modules, init_variables(cgan, modules, example_batch(cgan.STREAMS, config), config, 0)


def test_one_behind_dispatches_ahead_of_what_it_yields():
    events = []
    for item, found in parallel.one_behind(lambda x: events.append(f"dispatch {x}") or x * x, range(3)):
        events.append(f"use {item}")
        assert found == item * item
    assert events == ["dispatch 0", "dispatch 1", "use 0", "dispatch 2", "use 1", "use 2"]
    assert [list(parallel.one_behind(str, items)) for items in ((), (7,))] == [[], [(7, "7")]]


def host_batch(seed: int, size: int = 8):
    draw = np.random.default_rng(seed)
    stream = {
        "image": draw.integers(0, 256, (size, 32, 32, 3), dtype=np.uint8),
        "label": draw.choice(np.array([0, 1, 2, 255], np.uint8), (size, 32, 32)),
        "content": np.tile(np.int32([[32, 28]]), (size, 1)),
        "valid": np.ones(size, bool),
        "id": np.arange(size, dtype=np.int32),
    }
    return {"labelled": stream}


def run(devices: int, steps: int, spatial: int = 1):
    """Return state and metrics after some steps of SGD on so many devices, of which `spatial` share each image."""
    config, modules, variables = small_run()
    mesh = parallel.make_mesh(jax.devices()[:devices], spatial=spatial)
    state = create_state(variables, modules, dict.fromkeys(modules, optax.sgd(0.01)), seed=0)
    state = parallel.place(state, parallel.replicated(mesh))
    placed = [parallel.place(host_batch(number), parallel.batch_sharding(mesh)) for number in range(steps)]
    images = parallel.image_sharding(mesh)
    step = functools.partial(train_step, method=cgan, config=config, updates=((D,), (G,)), images=images)
    step = parallel.compile_step(step, state, placed[0], mesh)
    text = step.as_text()
    assert ("collective-permute" in text) == (spatial > 1)  # rows at the borders are exchanged
    assert "f64[" not in text
    if (devices, spatial) == (4, 1):  # gradients travel once, those of the discriminator for each of its two losses
        sent, size = hlo.collectives(text), lambda role: sum(leaf.nbytes for leaf in jax.tree.leaves(variables[role]))
        assert {(each.kind, each.participants) for each in sent} == {("all-reduce", 4)}
        assert len(sent) <= 18 and sum(each.bytes for each in sent) < 1.1 * (size(G) + 2 * size(D))
    metrics = []
    for batch in placed:
        before = state
        state, new = step(state, batch)
        metrics.append(new)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(before))  # donated
    return jax.device_get((state, metrics))


@functools.cache
def run_on_one():
    return run(1, 3)


@pytest.mark.parametrize("spatial", [1, 2])
def test_one_and_four_devices_agree(spatial):
    """Losses, weights and BatchNorm statistics are those of the global batch, also where devices share images."""
    (one, one_metrics), (four, four_metrics) = run_on_one(), run(4, 3, spatial)
    chex.assert_trees_all_close(one_metrics, four_metrics, rtol=1e-5, atol=1e-5)
    for role in (D, G):
        for tree in ("params", "batch_stats"):
            chex.assert_trees_all_close(
                getattr(one.networks[role], tree), getattr(four.networks[role], tree), rtol=1e-5, atol=1e-5
            )
    assert int(four.step) == 3
    first = small_run()[2][G]["batch_stats"]
    moved = jax.tree.map(lambda a, b: float(np.max(np.abs(a - b))), first, one.networks[G].batch_stats)
    assert min(jax.tree.leaves(moved)) > 1e-3


def test_the_compiled_step_refuses_other_shapes():
    mesh = parallel.make_mesh(jax.devices()[:2])
    state, batch = {"a": jnp.zeros(3)}, {"x": np.zeros((4, 2), np.float32)}
    state = parallel.place(state, parallel.replicated(mesh))
    placed = parallel.place(batch, parallel.batch_sharding(mesh))
    step = parallel.compile_step(lambda s, b: ({"a": s["a"] + b["x"].sum()}, {}), state, placed, mesh)
    state, _ = step(state, placed)
    with pytest.raises(TypeError):
        step(state, parallel.place({"x": np.zeros((8, 2), np.float32)}, parallel.batch_sharding(mesh)))


def test_a_step_on_processors_leaves_convolutions_to_eigen():
    x, w = jnp.ones((2, 6, 8, 32)), jnp.ones((3, 3, 32, 32))

    def step(w, x):
        out, pull = jax.vjp(lambda w: jax.lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=NHWC), w)
        return pull(out)[0], jnp.sum(out)

    text = parallel.compile_step(step, w, x, parallel.make_mesh(jax.devices()[:1])).as_text()
    convolutions = [line for line in text.splitlines() if " convolution(" in line]
    assert len(convolutions) == 2
    assert not any("param_" in line for line in convolutions)  # the operands of what is fused


def test_options_of_a_step_are_of_processors_and_of_compilers_that_know_them(monkeypatch):
    parallel.step_options.cache_clear()
    assert list(parallel.step_options("cpu")) == [parallel.YNN]
    assert parallel.step_options("tpu") == parallel.step_options("gpu") == {}
    parallel.step_options.cache_clear()
    monkeypatch.setattr(parallel, "YNN", "xla_cpu_no_such_option")
    assert parallel.step_options("cpu") == {}
    parallel.step_options.cache_clear()


def test_operations_of_a_step_are_those_of_all_devices():
    mesh = parallel.make_mesh(jax.devices()[:2])
    state, batch = {"a": jnp.ones((32, 64))}, {"x": np.ones((8, 32), np.float32)}
    step = parallel.compile_step(lambda s, b: (s, {"y": (b["x"] @ s["a"]).max()}), state, batch, mesh)
    product = 2 * 8 * 32 * 64
    assert product <= parallel.flops(step, mesh) < 1.05 * product  # and the maximum


def test_slices_are_sharded_by_their_examples():
    mesh = parallel.make_mesh()
    batch = parallel.place(CASES["critic rounds"].batch(), parallel.batch_sharding(mesh, rounds=3))
    for leaf in jax.tree.leaves(batch):
        assert leaf.sharding.spec == PartitionSpec(None, "data")
        assert {shard.data.shape[:2] for shard in leaf.addressable_shards} == {(3, 1)}


@pytest.mark.slow
def test_slices_on_one_and_four_devices_agree():
    case, results = CASES["critic rounds"], []
    for devices in (1, 4):
        mesh = parallel.make_mesh(jax.devices()[:devices])
        state = parallel.place(case.state(), parallel.replicated(mesh))
        batch = parallel.place(case.batch(), parallel.batch_sharding(mesh, rounds=3))
        step = functools.partial(train_step, method=case.method, config=case.config, updates=case.updates[0])
        step = jax.jit(step, compiler_options={"xla_backend_optimization_level": 0})  # compiles faster
        results.append(jax.device_get(step(state, batch)))
    chex.assert_trees_all_close(results[0][1], results[1][1], rtol=1e-5, atol=1e-4)
    for role, network in results[0][0].networks.items():
        chex.assert_trees_all_close(network.params, results[1][0].networks[role].params, rtol=1e-5, atol=1e-5)


def test_the_batch_must_be_shared_evenly():
    mesh = parallel.make_mesh()
    parallel.check_batch_size(8, mesh)
    for size, near in ((6, 8), (7, 8), (2, 4), (1, 4), (9, 8)):
        with pytest.raises(
            InputError, match=f"config.batch_size is {size}, which 4 devices .* multiple of 4, such as {near}"
        ):
            parallel.check_batch_size(size, mesh)


def test_devices_that_share_images():
    mesh = parallel.make_mesh(spatial=2)
    assert dict(mesh.shape) == {"data": 2, "spatial": 2} and mesh.devices.ravel().tolist() == jax.devices()
    assert parallel.image_sharding(mesh).spec == PartitionSpec("data", "spatial")
    assert parallel.image_sharding(parallel.make_mesh()) is None
    parallel.check_batch_size(2, mesh)
    with pytest.raises(InputError, match="is 3, which 2 groups of devices cannot share evenly; use a multiple of 2"):
        parallel.check_batch_size(3, mesh)
    with pytest.raises(InputError, match="spatial_shards is 3, but a process has 4 devices here; use a divisor of 4"):
        parallel.make_mesh(spatial=3)


def test_one_process_sums_nothing():
    tree = {"a": np.array([1, 2**40], np.int64)}
    assert parallel.sum_over_processes(tree) is tree
    assert parallel.any_process(True) is True
    assert parallel.any_process(False) is False
    assert parallel.is_first_process()


def test_sums_over_processes_are_exact(monkeypatch):
    """Counts above 2**53 would lose their last digit in floating point, and above 2**31 in 32-bit integers."""
    values = [2**31 - 1, 2**31, 2**53 + 1, 2**61 + 12345, 0, 7]
    others = [np.array([1, 2**31 - 1, 2**53 + 3, 2**60 + 999, 0, 0]), np.array([5, 2**33 + 1, 0, 1, 0, 2**31])]

    def gather(mine):
        assert mine.dtype == np.int32
        halves = [np.stack([(x >> 31).astype(np.int32), (x & 0x7FFFFFFF).astype(np.int32)]) for x in others]
        return np.stack([mine, *halves])

    monkeypatch.setattr(jax, "process_count", lambda: 3)
    monkeypatch.setattr(parallel.multihost_utils, "process_allgather", gather)
    total = parallel.sum_over_processes({"confusion": np.array(values, np.int64)})["confusion"]
    assert total.dtype == np.int64
    assert total.tolist() == [value + int(others[0][i]) + int(others[1][i]) for i, value in enumerate(values)]


def test_any_process(monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(parallel.multihost_utils, "process_allgather", lambda mine: np.stack([mine, np.asarray(True)]))
    assert parallel.any_process(False) is True


def test_half_a_set_of_variables_is_named(monkeypatch):
    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", "localhost:1234")
    monkeypatch.setenv("JAX_NUM_PROCESSES", "two")
    with pytest.raises(InputError, match="JAX_NUM_PROCESSES and JAX_PROCESS_ID must be whole numbers"):
        parallel.initialize()


def test_one_host_joins_nobody(monkeypatch):
    monkeypatch.delenv("JAX_COORDINATOR_ADDRESS", raising=False)
    monkeypatch.setenv("TPU_WORKER_HOSTNAMES", "localhost")
    monkeypatch.setattr(jax.distributed, "initialize", lambda **_: pytest.fail("joined"))
    parallel.initialize()


TWO_PROCESSES = """
import jax, numpy as np
from gan_seg_jax import parallel

parallel.initialize()
rank = jax.process_index()
confusion = np.array([[2**53 + 1 + rank, 2**31 - 1], [0, 5]], np.int64)
assert parallel.sum_over_processes({"a": confusion})["a"].tolist() == [[2**54 + 3, 2**32 - 2], [0, 10]]
assert parallel.any_process(rank == 1) and not parallel.any_process(False)
mesh = parallel.make_mesh()
batch = parallel.place({"x": np.full((2, 3), rank, np.float32)}, parallel.batch_sharding(mesh))
state = parallel.place({"w": np.ones(3, np.float32)}, parallel.replicated(mesh))
assert batch["x"].shape == (4, 3)
step = parallel.compile_step(lambda s, b: ({"w": s["w"] + b["x"].sum(0)}, {"m": b["x"].mean()}), state, batch, mesh)
state, metrics = step(state, batch)
assert np.asarray(state["w"]).tolist() == [3, 3, 3] and float(metrics["m"]) == 0.5
assert parallel.is_first_process() == (rank == 0)
"""


@pytest.mark.slow
def test_two_processes(repository):
    """Two processes of two devices each share a mesh, a batch and exact sums."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    common_settings = {
        **os.environ,
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
        "JAX_PLATFORMS": "cpu",
        "JAX_COORDINATOR_ADDRESS": f"localhost:{port}",
        "JAX_NUM_PROCESSES": "2",
        "PYTHONPATH": str(repository),
    }
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", TWO_PROCESSES],
            env={**common_settings, "JAX_PROCESS_ID": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        errors = [process.communicate(timeout=120)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], errors
