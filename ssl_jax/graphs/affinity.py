"""Similarities between all rows, in four forms, and products with them.

Every form is S = D^-1/2 W D^-1/2 of the weights W and their degrees D. With loops, W_ii
counts in both, and D^-1/2 S D^1/2 is the walk D^-1 W of label propagation; without, S
is label spreading's.

rbf weights exp(-gamma |x - y|^2) stay logarithms until they are divided by degrees: on
digits 0..16 at gamma 0.25, 196 of 330 rows of W sum to less than float32 holds. Rows
are given as z = sqrt(2 gamma) (x - center), so that log W_ij = z_i z_j - |z_i|^2 / 2 -
|z_j|^2 / 2. In float32 that leaves a relative error of about 1e-7 |z|^2 in a weight:
5e-6 on MNIST in [0, 1] at gamma 0.5, where the mean of |z|^2 is 53. `careful` graphs
look for rows of which |z|^2 is too large for that (`distances.is_far`), and take the
differences z_i - z_j of blocks that hold one.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.sharding import PartitionSpec as P

from ssl_jax.core import num_devices, on_every_device
from ssl_jax.graphs import distances, neighbors, sparse

BLOCK = 1024  # rows: 4 MiB of similarities
_FAR_ROWS = 64  # at a time of which differences are taken, if one is far
_LOWEST = -1e30  # of a running maximum: finite, or -inf - -inf would be NaN


class Dense(struct.PyTreeNode):
    """Weights held as a matrix."""

    weights_NN: jax.Array  # of S, its diagonal 0
    log_degree_N: jax.Array
    loop_N: jax.Array  # the diagonal of S

    def product(self, dense_NK: jax.Array) -> jax.Array:
        """S dense, [N, K]."""
        return _matmul(self.weights_NN, dense_NK) + self.loop_N[:, None] * dense_NK


class Blocks(struct.PyTreeNode):
    """rbf weights computed anew in every product, a block of rows and columns at a
    time: O(N (D + K)) memory.

    S is symmetric, so a pair of blocks serves both; with several devices they share
    the pairs. A row of degree infinity is padding.
    """

    scaled_ND: jax.Array  # z
    log_degree_N: jax.Array
    loop_N: jax.Array
    block: int = struct.field(pytree_node=False, default=BLOCK)
    careful: bool = struct.field(pytree_node=False, default=False)

    def product(self, dense_NK: jax.Array) -> jax.Array:
        """S dense, [N, K]."""
        rows = self._rows()
        devices = num_devices()

        def sums(rows, dense_nBK):
            def of_pair(i, j, sum_nBK):
                weights_BB = jnp.exp(_log_weights(rows, i, j))
                sum_nBK = sum_nBK.at[i].add(_matmul(weights_BB, dense_nBK[j]))
                mirrored_BK = _matmul(weights_BB.T, dense_nBK[i])
                return sum_nBK.at[j].add(jnp.where(i < j, mirrored_BK, 0))

            sum_nBK = _over_pairs(of_pair, jnp.zeros_like(dense_nBK), devices)
            return jax.lax.psum(sum_nBK, "data") if devices > 1 else sum_nBK

        dense_nBK = _blocked(dense_NK, self.block)
        sum_nBK = _on_devices(sums, devices)(rows, dense_nBK)
        sum_NK = sum_nBK.reshape(-1, dense_NK.shape[1])[: len(dense_NK)]
        return sum_NK + self.loop_N[:, None] * dense_NK

    def _rows(self):
        shift_N = -0.5 * self.log_degree_N
        return _rows(self.scaled_ND, shift_N, self.block, self.careful)

    def log_product(self, log_NK: jax.Array) -> jax.Array:
        """log(S exp(log)), [N, K]: no row underflows, however far from where there is
        anything; a value 1e-38 times the highest of its row may."""
        rows = self._rows()
        log_sum_NK = _log_sums(rows, log_NK, self.block)
        return jnp.logaddexp(log_sum_NK, jnp.log(self.loop_N)[:, None] + log_NK)


class Neighbors(struct.PyTreeNode):
    """Weight 1 to each of k neighbours. What row i lists need not list i, so S is not
    symmetric. With several devices each has a part of the rows."""

    index_Nk: jax.Array  # int32; where it names its own row, it counts in loop_N only
    log_degree_N: jax.Array
    loop_N: jax.Array

    def product(self, dense_NK: jax.Array) -> jax.Array:
        """S dense, [N, K]."""
        scale_N1 = jnp.exp(-0.5 * self.log_degree_N)[:, None]
        scaled_NK = scale_N1 * dense_NK
        N, devices = len(dense_NK), num_devices()

        def sums(index_kB, own_B, scaled_NK):
            def add(sum_BK, index_B):
                other_B = index_B != own_B
                return sum_BK + other_B[:, None] * scaled_NK[index_B], None

            zeros_BK = jnp.zeros_like(scaled_NK, shape=(len(own_B), dense_NK.shape[1]))
            return jax.lax.scan(add, zeros_BK, index_kB)[0]

        index_kN, own_N = self.index_Nk.T, jnp.arange(N)
        if devices > 1:
            padding = -N % devices
            parts = (P(None, "data"), P("data"), P())
            split = jax.shard_map(
                sums, in_specs=parts, out_specs=P("data"), check_vma=False
            )
            index_kN = jnp.pad(index_kN, ((0, 0), (0, padding)))
            own_N = jnp.pad(own_N, (0, padding))
            sum_NK = on_every_device(split(index_kN, own_N, scaled_NK))[:N]
        else:
            sum_NK = sums(index_kN, own_N, scaled_NK)
        return scale_N1 * sum_NK + self.loop_N[:, None] * dense_NK

    def log_product(self, log_NK: jax.Array) -> jax.Array:
        """log(S exp(log)), [N, K]. No weight is small: only what has come a hundred
        steps far underflows."""
        highest = log_NK.max()
        return jnp.log(self.product(jnp.exp(log_NK - highest))) + highest


class Entries(struct.PyTreeNode):
    """Any weights, of which only those that are not 0 are held (`given`)."""

    weights_NN: sparse.Sparse  # of S, without its diagonal
    log_degree_N: jax.Array
    loop_N: jax.Array

    def product(self, dense_NK: jax.Array) -> jax.Array:
        """S dense, [N, K]."""
        sum_NK = sparse.product(self.weights_NN, dense_NK)
        return sum_NK + self.loop_N[:, None] * dense_NK


Graph = Dense | Blocks | Neighbors | Entries


@partial(jax.jit, static_argnames=("loops", "careful"))
def dense(scaled_ND: jax.Array, *, loops: bool, careful: bool = False) -> Dense:
    """The rbf graph of `scaled` rows, in their precision."""
    offset_N = _offsets(scaled_ND)
    log_NN = _products(scaled_ND, offset_N, scaled_ND, offset_N)
    if careful:
        far_N = distances.is_far(-2 * offset_N, scaled_ND.shape[1])
        exact_NN = _differences_of_far(scaled_ND, scaled_ND, far_N)
        log_NN = jnp.where(far_N[None, :], exact_NN.T, log_NN)
        log_NN = jnp.where(far_N[:, None], exact_NN, log_NN)
    log_NN = _without_own(log_NN, True)
    log_degree_N = _degrees(jax.nn.logsumexp(log_NN, axis=1), loops)
    half_N = 0.5 * log_degree_N
    weights_NN = jnp.exp(log_NN - half_N[:, None] - half_N[None, :])
    return Dense(weights_NN, log_degree_N, _loops(log_degree_N, loops))


@partial(jax.jit, static_argnames=("loops", "block", "careful"))
def blocks(
    scaled_ND: jax.Array,
    mask_N: jax.Array | None = None,
    *,
    loops: bool,
    block: int = BLOCK,
    careful: bool = False,
) -> Blocks:
    """The same in blocks; rows where `mask_N` is False are padding."""
    if mask_N is None:
        mask_N = jnp.ones(len(scaled_ND), bool)
    shift_N = jnp.where(mask_N, jnp.zeros((), scaled_ND.dtype), -jnp.inf)
    log_ones_N1 = jnp.zeros((len(scaled_ND), 1), scaled_ND.dtype)
    rows = _rows(scaled_ND, shift_N, block, careful)
    log_sum_N = _log_sums(rows, log_ones_N1, block)[:, 0]
    log_degree_N = jnp.where(mask_N, _degrees(log_sum_N, loops), jnp.inf)
    loop_N = _loops(log_degree_N, loops)
    return Blocks(scaled_ND, log_degree_N, loop_N, block, careful)


@partial(jax.jit, static_argnames="loops")
def listed(
    index_Nk: jax.Array, mask_N: jax.Array | None = None, *, loops: bool
) -> Neighbors:
    """The graph of k neighbours a row, which may be the row itself.

    Degrees are scikit-learn's: without loops how many other rows list this one, and 1
    where none does; with loops k.
    """
    N, k = index_Nk.shape
    own_Nk = index_Nk == jnp.arange(N)[:, None]
    mask_N = jnp.ones(N, bool) if mask_N is None else mask_N
    if loops:
        loop_N = own_Nk.sum(axis=1) / jnp.float32(k)
        degree_N = jnp.full(N, k, jnp.float32)
    else:
        loop_N = jnp.zeros(N, jnp.float32)
        counted_Nk = (~own_Nk & mask_N[:, None]).astype(jnp.float32)
        degree_N = jnp.zeros(N).at[index_Nk].add(counted_Nk)
    log_degree_N = jnp.log(jnp.maximum(degree_N, 1))
    return Neighbors(
        index_Nk=index_Nk,
        log_degree_N=jnp.where(mask_N, log_degree_N, jnp.inf),
        loop_N=loop_N * mask_N,
    )


def average(
    new_MD: jax.Array,
    scaled_ND: jax.Array,
    values_NK: jax.Array,
    mask_N: jax.Array | None = None,
    *,
    careful: bool = False,
) -> jax.Array:
    """Of each new row the mean of values over all rows, weighted by the rbf kernel,
    [M, K]: scikit-learn's inductive rule (Delalleau et al., AISTATS 2005, eq. 6).

    Both kinds of rows are scaled. Weights are a softmax: no distance underflows.
    """
    offset_N = _offsets(scaled_ND)
    shift_N = jnp.zeros_like(offset_N)
    if mask_N is not None:
        shift_N = jnp.where(mask_N, shift_N, -jnp.inf)

    def of_block(z_BD):
        log_BN = _matmul(z_BD, scaled_ND.T) + (offset_N + shift_N)[None, :]
        if careful:
            far_B = distances.is_far(-2 * _offsets(z_BD), z_BD.shape[1])
            exact_BN = _differences_of_far(z_BD, scaled_ND, far_B) + shift_N[None, :]
            log_BN = jnp.where(far_B[:, None], exact_BN, log_BN)
        return _matmul(jax.nn.softmax(log_BN), values_NK)

    M, K = len(new_MD), values_NK.shape[1]
    block = min(neighbors.block_rows(M, len(scaled_ND)), M)
    return jax.lax.map(of_block, _blocked(new_MD, block)).reshape(-1, K)[:M]


def _degrees(log_sum_N, loops):
    """Logarithms of the degrees from those of the sums over other rows."""
    return jnp.logaddexp(log_sum_N, 0) if loops else log_sum_N


def _loops(log_degree_N, loops):
    return jnp.exp(-log_degree_N) if loops else jnp.zeros_like(log_degree_N)


def _offsets(scaled_ND):
    return -0.5 * (scaled_ND**2).sum(axis=1)


def _matmul(a, b):
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)


def _blocked(rows, block, fill=0):
    """[blocks, block, ...], the last one filled up."""
    padding = [(0, -len(rows) % block)] + [(0, 0)] * (rows.ndim - 1)
    padded = jnp.pad(rows, padding, constant_values=fill)
    return padded.reshape(-1, block, *rows.shape[1:])


class _Rows(NamedTuple):
    """n blocks of B rows."""

    z_nBD: jax.Array
    offset_nB: jax.Array  # what is added in the row's logarithms, and in its products
    shift_nB: jax.Array  # what is added in its differences: without -|z|^2 / 2
    far_n: jax.Array | None  # holds a row too far for products; None: not looked for


def _rows(scaled_ND, shift_N, block, careful):
    offset_N, far_n = _offsets(scaled_ND), None
    if careful:
        far_N = distances.is_far(-2 * offset_N, scaled_ND.shape[1])
        far_n = _blocked(far_N, block).any(axis=1)
    return _Rows(
        z_nBD=_blocked(scaled_ND, block),
        offset_nB=_blocked(offset_N + shift_N, block, fill=-jnp.inf),
        shift_nB=_blocked(shift_N, block, fill=-jnp.inf),
        far_n=far_n,
    )


def _log_weights(rows, i, j):
    """Between the rows of blocks i and j, [B, B]; -inf of a row to itself."""
    z_BD, others_BD = rows.z_nBD[i], rows.z_nBD[j]

    def by_products():
        return _products(z_BD, rows.offset_nB[i], others_BD, rows.offset_nB[j])

    def by_differences():
        shift_BB = rows.shift_nB[i][:, None] + rows.shift_nB[j][None, :]
        return -0.5 * distances.squares(z_BD, others_BD) + shift_BB

    if rows.far_n is None:
        return _without_own(by_products(), i == j)
    far = rows.far_n[i] | rows.far_n[j]
    return _without_own(jax.lax.cond(far, by_differences, by_products), i == j)


def _products(z_BD, offset_B, others_CD, offset_C):
    """log W between rows, [B, C], plus what the offsets have beside -|z|^2 / 2."""
    return _matmul(z_BD, others_CD.T) + (offset_B[:, None] + offset_C[None, :])


def _differences_of_far(z_BD, others_CD, far_B):
    """log W of the far rows, [B, C]; of others any number."""

    def of_block(block):
        z_bD, far_b = block
        zeros_bC = jnp.zeros((len(z_bD), len(others_CD)), z_bD.dtype)
        return jax.lax.cond(
            far_b.any(),
            lambda: -0.5 * distances.squares(z_bD, others_CD),
            lambda: zeros_bC,
        )

    size = min(_FAR_ROWS, len(z_BD))
    log_nbC = jax.lax.map(of_block, (_blocked(z_BD, size), _blocked(far_B, size)))
    return log_nbC.reshape(-1, len(others_CD))[: len(z_BD)]


def _without_own(log_BB, own):
    """-inf on the diagonal, if these are a block's own rows."""
    own_BB = jnp.eye(len(log_BB), dtype=bool) & own
    return jnp.where(own_BB, -jnp.inf, log_BB)


def _over_pairs(of_pair, carry_n, devices):
    """carry = of_pair(i, j, carry) over this device's part of the pairs i <= j < n."""
    i_P, j_P = map(jnp.asarray, np.triu_indices(len(jax.tree.leaves(carry_n)[0])))
    first = jax.lax.axis_index("data") if devices > 1 else 0

    def step(t, carry_n):
        pair = first + devices * t
        return of_pair(i_P[pair], j_P[pair], carry_n)

    return jax.lax.fori_loop(0, -((first - len(i_P)) // devices), step, carry_n)


def _on_devices(function, devices):
    """`function` on each device, with all of its arguments."""
    if devices == 1:
        return function
    return jax.shard_map(function, in_specs=P(), out_specs=P(), check_vma=False)


def _log_sums(rows, log_NK, block):
    """log of sum_j W_ij exp(log_jk) over the other rows j, [N, K].

    Each row's sum is kept relative to its largest term so far, as in a softmax whose
    terms come one after the other.
    """
    devices = num_devices()
    # exp(log) = exp(scale) values, and the values of a row are at most 1.
    scale_N = log_NK.max(axis=1)
    finite_N1 = jnp.where(jnp.isfinite(scale_N), scale_N, 0)[:, None]
    values_NK = jnp.exp(log_NK - finite_N1)

    def sums(rows, scale_nB, values_nBK):
        def add(carry, at, other, log_BB):
            peak_nB, sum_nBK = carry
            log_BB += scale_nB[other][None, :]
            peak_B = jnp.maximum(peak_nB[at], log_BB.max(axis=1))
            sum_BK = _matmul(jnp.exp(log_BB - peak_B[:, None]), values_nBK[other])
            sum_BK += sum_nBK[at] * jnp.exp(peak_nB[at] - peak_B)[:, None]
            return peak_nB.at[at].set(peak_B), sum_nBK.at[at].set(sum_BK)

        def of_pair(i, j, carry):
            log_BB = _log_weights(rows, i, j)
            carry = add(carry, i, j, log_BB)
            return add(carry, j, i, jnp.where(i < j, log_BB, -jnp.inf).T)

        lowest_nB = jnp.full_like(rows.offset_nB, _LOWEST)
        start = (lowest_nB, jnp.zeros_like(values_nBK))
        peak_nB, sum_nBK = _over_pairs(of_pair, start, devices)
        if devices > 1:
            highest_nB = jax.lax.pmax(peak_nB, "data")
            part_nBK = sum_nBK * jnp.exp(peak_nB - highest_nB)[..., None]
            peak_nB, sum_nBK = highest_nB, jax.lax.psum(part_nBK, "data")
        return peak_nB[..., None] + jnp.log(sum_nBK)

    blocked = partial(_blocked, block=block)
    log_sum_nBK = _on_devices(sums, devices)(
        rows,
        blocked(scale_N, fill=-jnp.inf),
        blocked(values_NK),
    )
    return log_sum_nBK.reshape(-1, log_NK.shape[1])[: len(log_NK)]
