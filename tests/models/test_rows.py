"""Several batches as one, row by row."""

import jax
import jax.numpy as jnp
import numpy as np

from gan_seg_jax import parallel
from gan_seg_jax.models.rows import apart, together


def test_each_row_stands_beside_its_fellows():
    first, second, third = (jnp.arange(4)[:, None] * 10 + n for n in (1, 2, 3))
    joined = together(first, second, third)
    np.testing.assert_array_equal(joined[:, 0], [1, 2, 3, 11, 12, 13, 21, 22, 23, 31, 32, 33])
    for part, expected in zip(apart({"a": joined, "b": 2 * joined}, 3), (first, second, third), strict=True):
        np.testing.assert_array_equal(part["a"], expected)
        np.testing.assert_array_equal(part["b"], 2 * expected)


def test_devices_keep_their_rows():
    mesh = parallel.make_mesh()
    sharding = parallel.batch_sharding(mesh)
    batch = jax.ShapeDtypeStruct((4 * mesh.size, 6, 3), jnp.float32, sharding=sharding)

    def run(a, b):
        first, second = apart(jnp.tanh(together(a, b)), 2)
        return first, jnp.sin(second)

    compiled = jax.jit(run, out_shardings=sharding).lower(batch, batch).compile()
    assert mesh.size > 1
    assert not any(word in compiled.as_text() for word in ("all-", "collective-", "send", "recv"))
