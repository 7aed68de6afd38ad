"""Gaussian filtering of scattered points in several dimensions on the permutohedral lattice.

Adams, Baek and Davis, Fast High-Dimensional Filtering Using the Permutohedral Lattice (2010). Up to a common factor,
sum_j exp(-|f_i - f_j|^2 / 2) v_j is approximated in three linear steps, in time proportional to the number of points:
*splat* each value onto the d + 1 corners of the simplex around its point, with barycentric weights; *blur* along each
of the d + 1 axes of the lattice with (1, 2, 1) / 4; *slice*: read the values back with the same weights.

What differs from the paper, in both cases because it brings the result nearer to the exact sum:
- The blur is the mean of the axes in order and in reverse. The operator is then symmetric, as the kernel is, and its
  own gradient.
- In the paper only the corners of occupied simplices exist, and the mass that would pass through others is lost. Here,
  where there are few vertices for the points (below n (d + 1) / (2 d + 3), 0.46 n in five dimensions: wide kernels),
  the neighbours of the corners exist too, and the lattice is made a little finer (`SCALES`).

Shapes are static. There is room for n (d + 1) vertices, as many as there can be, so that none is ever dropped; the work
is done in the least of `ROOMS` that holds those there are (`fitted`). A GPU may add in another order from run to run.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

# Lattice units in a standard deviation, against those in which splat, blur and slice have its variance (1/8, 3/4, 1/8).
# For a lattice without gaps, for the paper's, and for the paper's where most vertices serve one point: nearest to the
# exact sum, as measured on photographs and on noise.
SCALES = 1.1, 1.02, 0.9
# Room for vertices, in parts of the points, where all d + 1 of each are not needed: photographs have 0.1 to 1.5.
ROOMS = 0.5, 1.0, 1.5


class Lattice(NamedTuple):
    """Points in a lattice with room for m vertices. They count from 1; 0 stands for one that does not exist.

    Attributes:
        weights: barycentric, float32 [d + 1, n]; 0 for points that take no part.
        vertices: the corners of each point's simplex, int32 [d + 1, n].
        following: the next vertex along each axis, int32 [d + 1, m + 1].
        preceding: the previous one.
        count: number of vertices, int32 [].
    """

    weights: jax.Array
    vertices: jax.Array
    following: jax.Array
    preceding: jax.Array
    count: jax.Array


class Vertices(NamedTuple):
    """Sites of a lattice, of which some are the same.

    Attributes:
        sites: the first d of their d + 1 coordinates, int32 [m, d].
        number: of the vertex that each site is, int32 [m]; 0 for sites that do not count.
        first: whether a site is the first to be its vertex, bool [m]. Vertices are numbered by their first sites, so
            that neighbours in the image are neighbours in memory.
        table: hash table of first sites, m where empty, int32 [slots].
        count: number of vertices, int32 [].
    """

    sites: jax.Array
    number: jax.Array
    first: jax.Array
    table: jax.Array
    count: jax.Array


def build(features: jax.Array, valid: jax.Array) -> Lattice:
    """Place points in the lattice.

    Args:
        features: float32 [n, d], in units of the kernel's standard deviation. Vertices are told apart by coordinates
            modulo 2^16, which is more than 10,000 of these units.
        valid: bool [n]; other points take no part: they send nothing, receive nothing and make no vertices.

    Returns:
        The lattice.
    """
    n, d = features.shape
    m = n * (d + 1)
    taking_part = jnp.sum(valid, dtype=jnp.int32)
    dense = m // (2 * d + 3)  # a vertex and its neighbours are 2 d + 3

    def place(scale):
        sites, weights = simplex(scale * features)
        return unique(sites.reshape(m, d), jnp.repeat(valid, d + 1)), (weights * valid[:, None]).T

    def without_gaps():
        near = found.sites[jnp.nonzero(found.first, size=dense, fill_value=0)[0]]
        # The corners come first, so they keep their numbers.
        near = jnp.concatenate([near, *(near + step for step in steps(d)), *(near - step for step in steps(d))])
        exists = jnp.tile(jnp.arange(dense) < found.count, 2 * d + 3)
        wide = unique(jnp.pad(near, ((0, m - len(near)), (0, 0))), jnp.pad(exists, (0, m - len(exists))))
        return Lattice(weights, found.number.reshape(n, d + 1).T, *neighbours(wide), wide.count)

    def as_published():
        corners, weights = place(jnp.where(found.count <= 3 * taking_part, *SCALES[1:]))
        return Lattice(weights, corners.number.reshape(n, d + 1).T, *neighbours(corners), corners.count)

    found, weights = place(SCALES[0])
    crowded = (2 * d + 3) * found.count <= (d + 1) * taking_part
    return jax.lax.cond(crowded, without_gaps, as_published)


def simplex(features: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the corners of the simplex around each point, int32 [n, d + 1, d], and barycentric weights [n, d + 1].

    The lattice lies in the plane of d + 1 coordinates whose sum is 0; those of corner r are all r modulo d + 1.
    """
    d = features.shape[1]
    axes = jnp.arange(1, d + 1, dtype=jnp.float32)
    # Units in which splat, blur and slice together have variance 1.
    scaled = features * ((d + 1) * (2 / 3) ** 0.5) / jnp.sqrt(axes * (axes + 1))
    later = jnp.cumsum(scaled[:, ::-1], axis=1)[:, ::-1]
    elevated = jnp.pad(later, ((0, 0), (0, 1))) - jnp.pad(scaled * axes, ((0, 0), (1, 0)))
    # The nearest corner 0: round each coordinate, then repair the sum by moving those that were rounded furthest.
    whole = jnp.round(elevated / (d + 1)).astype(jnp.int32)
    rest = elevated - (d + 1) * whole
    larger = rest[:, None, :] > rest[:, :, None]
    equal = (rest[:, None, :] == rest[:, :, None]) & jnp.tri(d + 1, k=-1, dtype=bool)  # the earlier axis first
    rank = jnp.sum(larger | equal, axis=2, dtype=jnp.int32) + jnp.sum(whole, axis=1, keepdims=True)
    wrap = (rank < 0).astype(jnp.int32) - (rank > d)
    rank, whole = rank + (d + 1) * wrap, whole + wrap
    offset = elevated / (d + 1) - whole
    # Sorted by rank and reversed, the weights are the steps from one offset to the next, around the circle.
    ascending = jnp.sum(jnp.where(d - rank[:, :, None] == jnp.arange(d + 1), offset[:, :, None], 0), axis=1)
    weights = (ascending - jnp.roll(ascending, 1, axis=1)).at[:, 0].add(1)
    r = jnp.arange(d + 1)[:, None]
    corner = (d + 1) * whole[:, None, :] + jnp.where(rank[:, None, :] <= d - r, r, r - (d + 1))
    return corner[..., :d], weights


def steps(d: int) -> jax.Array:
    """Return the steps along the d + 1 axes, int32 [d + 1, d]: 1 in every coordinate but -d in the axis' own."""
    return 1 - (d + 1) * jnp.eye(d + 1, d, dtype=jnp.int32)


def unique(sites: jax.Array, wanted: jax.Array) -> Vertices:
    """Number the different ones of the wanted sites; sites int32 [m, d], wanted bool [m]."""
    m = len(sites)
    table, owner = _insert(_pack(sites), wanted)
    first = owner == jnp.arange(m)
    number = jnp.append(jnp.cumsum(first, dtype=jnp.int32), 0)
    return Vertices(sites, number[owner], first, table, number[m - 1])


def neighbours(found: Vertices) -> tuple[jax.Array, jax.Array]:
    """Return the following and the preceding vertices along each axis, as in `Lattice`."""
    m, d = found.sites.shape
    words = _pack(found.sites)
    number = jnp.append(found.number, 0)

    def among(rows):
        sites = found.sites[jnp.nonzero(found.first, size=rows, fill_value=0)[0]]
        targets = _pack(sites + steps(d)[:, None, :]).reshape((d + 1) * rows, -1)
        exists = jnp.tile(jnp.arange(rows) < found.count, d + 1)
        following = number[_find(found.table, words, targets, exists)].reshape(d + 1, rows)
        here = jnp.arange(1, rows + 1)
        back = lambda step: jnp.zeros(rows + 1, jnp.int32).at[step].set(here).at[0].set(0)
        preceding = jnp.pad(jax.vmap(back)(following), ((0, 0), (0, m - rows)))
        return jnp.pad(following, ((0, 0), (1, m - rows))), preceding

    return _sized(among, found.count, m // (d + 1), m)


def fitted(run: Callable[[Lattice], jax.Array], lattice: Lattice) -> jax.Array:
    """Return `run(lattice)`, in which the lattice has the least of `ROOMS` that holds its vertices.

    Args:
        run: all that is done on the lattice; compiled for each room, and done for one.
        lattice: as of `build`.
    """
    corners, n = lattice.vertices.shape

    def on(rows):
        return run(
            lattice._replace(following=lattice.following[:, : rows + 1], preceding=lattice.preceding[:, : rows + 1])
        )

    return _sized(on, lattice.count, n, n * corners)


def _sized(run: Callable, count: jax.Array, n: int, m: int):
    """Return `run(rows)` for the least room for at least `count` vertices of n points, of which m is the most."""
    sizes = [*(math.ceil(room * n) for room in ROOMS), m]
    which = jnp.sum(count > jnp.asarray(sizes))
    return jax.lax.switch(which, [lambda rows=rows: run(rows) for rows in sizes])


@jax.custom_vjp
def blur(values: jax.Array, lattice: Lattice) -> jax.Array:
    """Filter values at the lattice's points.

    Args:
        values: float32 [n, c].
        lattice: of the n points, at best in `fitted`; gets no gradient.

    Returns:
        float32 [n, c], the Gaussian sums up to a factor that is the same for all.
    """
    axes = lattice.following, lattice.preceding
    empty = jnp.zeros((axes[0].shape[1], values.shape[1]), values.dtype)
    # Points that take no part splat zeros onto the row of no vertex.
    splat = empty.at[lattice.vertices].add(lattice.weights[..., None] * values, mode="promise_in_bounds")
    blurred = 0.5 * (_along(splat, axes, reverse=False) + _along(splat, axes, reverse=True))
    corners = zip(lattice.vertices, lattice.weights, strict=True)
    return sum(_take(blurred, vertex) * weight[:, None] for vertex, weight in corners)


def _along(values, axes, *, reverse):
    """Blur along one axis after the other; unrolled, XLA would fuse the passes and repeat the earlier in the later."""
    both = lambda values, following, preceding: _take(values, following) + _take(values, preceding)
    return jax.lax.scan(lambda v, axis: (0.5 * v + 0.25 * both(v, *axis), None), values, axes, reverse=reverse)[0]


def _take(values, rows):
    return values.at[rows].get(mode="promise_in_bounds")


def _blur_forward(values, lattice):
    return blur(values, lattice), lattice


def _blur_backward(lattice, cotangent):
    return blur(cotangent, lattice), None


blur.defvjp(_blur_forward, _blur_backward)


def _pack(coordinates: jax.Array) -> jax.Array:
    """Pack int32 [..., d], modulo 2^16, into uint32 [..., ceil(d / 2)]."""
    low = (coordinates & 0xFFFF).astype(jnp.uint32)
    if low.shape[-1] % 2:
        low = jnp.concatenate([low, jnp.zeros_like(low[..., :1])], -1)
    return low[..., ::2] << 16 | low[..., 1::2]


def _slot(words: jax.Array, attempt: jax.Array, slots: int) -> jax.Array:
    """Return where to look for words [n, w] at an attempt: double hashing, odd strides in a table of a power of 2."""
    mixed = jnp.zeros(len(words), jnp.uint32)
    for i in range(words.shape[1]):
        mixed = (mixed ^ words[:, i]) * jnp.uint32(0x9E3779B1)
        mixed = (mixed ^ mixed >> 15) * jnp.uint32(0x85EBCA77)
        mixed = mixed ^ mixed >> 13
    return ((mixed + attempt * (mixed >> 9 | 1)) & jnp.uint32(slots - 1)).astype(jnp.int32)


def _insert(words: jax.Array, wanted: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Put the wanted words [m, w] into a hash table, all at once in rounds; return the table of owners, and the owners.

    In a round, everything not yet placed tries its next slot; the first to come gets an empty one, and equal words,
    which always try the same slots, find themselves there too. At most half of the slots are ever full.
    """
    m = len(words)
    slots = 1 << (2 * m - 1).bit_length()
    index = jnp.arange(m, dtype=jnp.int32)

    def attempt(state):
        table, owner, number = state
        slot = _slot(words, number, slots)
        waiting = wanted & (owner == m)
        claim = waiting & (_take(table, slot) == m)
        table = table.at[jnp.where(claim, slot, slots)].min(index, mode="drop")
        holder = _take(table, slot)
        same = jnp.all(_take(words, jnp.minimum(holder, m - 1)) == words, axis=1)
        return table, jnp.where(waiting & same, holder, owner), number + 1

    unfinished = lambda state: jnp.any(wanted & (state[1] == m))
    start = jnp.full(slots, m, jnp.int32), jnp.full(m, m, jnp.int32), jnp.uint32(0)
    table, owner, _ = jax.lax.while_loop(unfinished, attempt, start)
    return table, owner


def _find(table: jax.Array, words: jax.Array, targets: jax.Array, wanted: jax.Array) -> jax.Array:
    """Return the owner of each wanted target [t, w] in the table of `words` [m, w], or m where there is none."""
    m = len(words)

    def attempt(state):
        owner, waiting, number = state
        holder = _take(table, _slot(targets, number, len(table)))
        same = jnp.all(_take(words, jnp.minimum(holder, m - 1)) == targets, axis=1)
        found = waiting & (holder < m) & same
        return jnp.where(found, holder, owner), waiting & (holder < m) & ~same, number + 1

    start = jnp.full(len(targets), m, jnp.int32), wanted, jnp.uint32(0)
    return jax.lax.while_loop(lambda state: jnp.any(state[1]), attempt, start)[0]
