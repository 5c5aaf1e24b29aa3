"""3x3 convolution by Winograd's minimal filtering, F(2x2, 3x3): 16 products where the
direct way takes 36.

Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", arXiv:1509.09308,
section 4.1: with tiles d of 4x4 pixels that overlap by two, filters g and outputs of
2x2 pixels, Y = A^T [(G g G^T) * (B^T d B)] A. The products become 16 matrix products,
over channels and all tiles. Sums are those of the direct way up to rounding.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

Grid = Sequence[Sequence[jax.Array]]  # rows of columns


def convolve(x_BHWC: jax.Array, kernel_33CD: jax.Array) -> jax.Array:
    """Convolution of stride 1 that pads one zero on all sides: [B, H, W, D]; H and W
    are even."""
    B, H, W, _ = x_BHWC.shape
    tiles, filters = _tiles(x_BHWC), _both(_of_filter, _grid(kernel_33CD))
    products = [
        [tile @ taps for tile, taps in zip(*row, strict=True)]
        for row in zip(tiles, filters, strict=True)
    ]
    y = jnp.stack([jnp.stack(row, 1) for row in _both(_of_products, products)], 1)
    y = y.reshape(B, H // 2, W // 2, 2, 2, -1).transpose(0, 1, 3, 2, 4, 5)
    return y.reshape(B, H, W, -1)


def image_gradient(dy_BHWD: jax.Array, kernel_33CD: jax.Array) -> jax.Array:
    """Of `convolve` by its images, [B, H, W, C]: a convolution with the filters turned
    around."""
    return convolve(dy_BHWD, kernel_33CD[::-1, ::-1].swapaxes(2, 3))


def kernel_gradient(x_BHWC: jax.Array, dy_BHWD: jax.Array) -> jax.Array:
    """Of `convolve` by its kernel, [3, 3, C, D]: G^T [(B^T d B)^T (A dy A^T)] G, the
    matrix products over all tiles."""
    outputs = [[_flat(dy_BHWD[:, i::2, j::2]) for j in (0, 1)] for i in (0, 1)]
    sums = [
        [tile.T @ output for tile, output in zip(*row, strict=True)]
        for row in zip(_tiles(x_BHWC), _both(_to_products, outputs), strict=True)
    ]
    return jnp.stack([jnp.stack(row) for row in _both(_to_filter, sums)])


def _tiles(x_BHWC):
    """B^T d B of every tile, 4x4 arrays of [tiles, C]."""
    _, H, W, _ = x_BHWC.shape
    padded = jnp.pad(x_BHWC, ((0, 0), (1, 1), (1, 1), (0, 0)))
    pixels = [
        [_flat(padded[:, i:][:, :H:2, j:][:, :, :W:2]) for j in range(4)]
        for i in range(4)
    ]
    return _both(_of_tile, pixels)


def _flat(x_BHWC):
    return x_BHWC.reshape(-1, x_BHWC.shape[-1])


def _grid(x):
    return [list(row) for row in x]


def _both(transform: Callable, grid: Grid) -> Grid:
    """`transform` along each row of `grid`, then along each column."""
    rows = [transform(*row) for row in grid]
    columns = [transform(*column) for column in zip(*rows, strict=True)]
    return list(zip(*columns, strict=True))


def _of_tile(a, b, c, d):  # B^T
    return a - c, b + c, c - b, b - d


def _of_filter(a, b, c):  # G
    return a, (a + b + c) / 2, (a - b + c) / 2, c


def _of_products(a, b, c, d):  # A^T
    return a + b + c, b - c - d


def _to_products(a, b):  # A
    return a, a + b, a - b, -b


def _to_filter(a, b, c, d):  # G^T
    return a + (b + c) / 2, (b - c) / 2, (b + c) / 2 + d
