"""Four virtual CPU devices for every test, and what grain needs of absl."""

import contextlib
import functools
import gc
import os
import re
from pathlib import Path

# Tests compile much and compute little: without optimisation, without XLA's newer fusion emitters for CPU, which take
# twice as long to compile, and in one part, for pytest keeps every core busy already.
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "")
    + " --xla_force_host_platform_device_count=4 --xla_backend_optimization_level=0"
    + " --xla_backend_extra_options=xla_cpu_disable_new_fusion_emitters --xla_cpu_parallel_codegen_split_count=1"
)
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1")  # as commands have it; inherited

import pytest
from absl import flags

flags.FLAGS.mark_as_parsed()  # grain reads absl flags


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    """Run a slow test that is named: by its whole id, or by its parameter or what comes before the colon in -k."""
    if config.option.markexpr != "not slow":
        return
    words = set(re.findall(r"[\w:]+", config.option.keyword))
    for item in items:
        parameter = item.name.partition("[")[2].removesuffix("]")
        if item.nodeid in config.args or (parameter and {parameter, parameter.partition(":")[0]} & words):
            item.own_markers = [mark for mark in item.own_markers if mark.name != "slow"]


def pytest_collection_finish():
    """Collect garbage seldom: tracing makes many small objects that live long, and the modules stay."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 100)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory):
    """Keep what tests draw and check out of the user's cache."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder


@pytest.fixture
def exact_crf(monkeypatch):
    """Let the brute-force CRF, which compiles faster, stand in for the lattice wherever predictions are made."""
    from gan_seg_jax.inference import scoring  # after the devices are set: it imports JAX

    monkeypatch.setattr(scoring.crf, "mean_field", functools.partial(scoring.crf.mean_field, method="exact"))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A tiny set, a trained run on it, and a compile cache that all modules share; see `tests/tiny_runs.py`."""
    from tests import tiny_runs  # after the devices are set: it imports JAX

    made = tiny_runs.place(tmp_path_factory)
    with tiny_runs.compile_cache(made.cache), contextlib.chdir(tiny_runs.ROOT):
        yield made
