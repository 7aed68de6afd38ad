"""Names of slices, facts of chips, and what is set for libtpu."""

import pytest

from gan_seg_jax.errors import InputError
from gan_seg_jax.planning import slices


@pytest.mark.parametrize(
    ("name", "topology", "chips", "hosts"),
    [
        ("v5e-8", "v5e:2x4", 8, 1),
        ("v5litepod-32", "v5e:4x8", 32, 8),
        ("v6e-16", "v6e:4x4", 16, 4),
        ("v5e-1", "v5e:1x1", 1, 1),
        ("v5p-8", "v5p:2x2x1", 4, 1),  # its number counts TensorCores
        ("v5p-32", "v5p:2x2x4", 16, 4),
    ],
)
def test_cloud_s_names(name, topology, chips, hosts):
    found = slices.named(name)
    assert (found.topology, found.chips, found.hosts) == (topology, chips, hosts)


def test_every_name_says_its_size():
    for name, found in slices.SLICES.items():
        cores = found.chips * (2 if found.kind == "v5p" else 1)
        assert name == f"{found.kind}-{cores}"
        assert found.chips % found.hosts == 0


def test_an_unknown_slice_is_answered_by_the_nearest():
    with pytest.raises(InputError, match=r"'v5e-7'\. Did you mean 'v5e-8'\? Known: .*v6e-32"):
        slices.named("v5e-7")


def test_a_real_tpu_is_left_alone():
    """Nothing of the machine's own TPU is left, and libtpu takes no lock of it; where libtpu lies is still known."""
    environment = {"TPU_WORKER_ID": "3", "TPU_LIBRARY_PATH": "/lib", "JAX_PLATFORMS": "tpu", "HOME": "/home"}
    slices.pretend(environment)
    assert "TPU_WORKER_ID" not in environment
    assert environment["TPU_LIBRARY_PATH"] == "/lib" and environment["HOME"] == "/home"
    assert environment["JAX_PLATFORMS"] == "cpu" and environment["ALLOW_MULTIPLE_LIBTPU_LOAD"] == "1"
