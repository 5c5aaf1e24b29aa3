"""Images that are there more than once: the same pixels, or nearly the same picture.

Near are two images whose signatures have a cosine of LEVELS[0] or more. A signature is
what a picture looks like from afar: brought to 16x16 grey levels, its lowest 8x8 cosine
frequencies but for the mean, each times its frequency to the power of _TILT (in
photographs coarse ones are the stronger by so much, and would drown the others), as a
vector of length 1. So brightness, contrast, colour, format, size and a shift by a few
hundredths of the width do not count; a mirrored or turned picture is another.

Checked on CIFAR-10 against the 286 pairs of a test and a training image that people,
shown what a network finds alike, have called one photograph (249) or very similar
(Barz and Denzler, arXiv:1902.00423): at 0.92 it finds 299 such pairs, of 217 test
images, 99.0% of them with one label, and among them 127 of the 286 (121 of the 249); of
80 pairs that were looked at 3 were of different things. At 0.9 it is 400 pairs, 98.5%
and 152. What it does not find are stronger crops and shifts.

Where images are alike by nature, as digits are, so many pairs are near that it says
nothing. So while pairs are more than _PAIRS and a tenth of the images, and an image
that is near any is near more than _FEW on average, the level rises, and the analysis
says to which. Of MNIST 76% of the images are near another one at 0.92, which is no
copy; 1.9% are at 0.995, which is its level. A few bursts of photographs raise nothing.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ssl_jax.data import progress

LEVELS = (0.92, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999)  # cosines of two signatures
_PAIRS, _FEW = 50, 2
_SIDE, _KEPT, _TILT = 16, 8, 0.875
_FLAT = 2.0  # grey levels of standard deviation below which nothing is to be seen
_GREY = (0.299, 0.587, 0.114)  # ITU-R 601, as Pillow's
_TILE = 4096  # signatures that are compared with so many others at a time
_MOST = 32  # of those near an image in a tile, the nearest that are kept


class Pairs(NamedTuple):
    """Rows of two images each, the first below the second."""

    first_P: np.ndarray  # int
    second_P: np.ndarray
    cosine_P: np.ndarray  # float32

    def at(self, level: float) -> "Pairs":
        """Those of this cosine or more."""
        return Pairs(*(part[self.cosine_P >= level] for part in self))


@jax.jit
def signatures(images_BHWC: jax.Array) -> jax.Array:
    """signatures_BD, float32, of uint8 images; of flat ones zeros."""
    levels_BHWC, (B, *_, C) = images_BHWC.astype(jnp.float32), images_BHWC.shape
    grey_BHW = levels_BHWC[..., 0] if C == 1 else levels_BHWC @ jnp.array(_GREY)
    small_BSS = jax.image.resize(grey_BHW, (B, _SIDE, _SIDE), "linear")
    cosines_KS = _cosines()
    waves_BKK = jnp.einsum(
        "ks,bst,lt->bkl", cosines_KS, small_BSS, cosines_KS, precision="highest"
    )
    frequency_KK = np.hypot(*np.meshgrid(*[np.arange(_KEPT)] * 2, indexing="ij"))
    tilted_BKK = waves_BKK * (frequency_KK**_TILT).astype(np.float32)[None]
    tilted_BD = tilted_BKK.reshape(B, -1)[:, 1:]
    length_B = jnp.linalg.norm(tilted_BD, axis=1)
    seen_B = small_BSS.std(axis=(1, 2)) >= _FLAT
    scale_B = jnp.where(seen_B, 1 / jnp.maximum(length_B, 1e-6), 0)
    return scale_B[:, None] * tilted_BD


def _cosines():
    """Rows of the orthonormal DCT-II, [_KEPT, _SIDE]."""
    wave_KS = np.arange(_KEPT)[:, None] * (np.arange(_SIDE) + 0.5)[None, :]
    cosines_KS = np.sqrt(2 / _SIDE) * np.cos(np.pi / _SIDE * wave_KS)
    cosines_KS[0] /= np.sqrt(2)
    return cosines_KS.astype(np.float32)


def same(digest_N: np.ndarray) -> list[np.ndarray]:
    """The groups of rows with the same digest, of two rows or more, each in order."""
    order_N = np.argsort(digest_N, kind="stable")
    starts = np.flatnonzero(np.diff(digest_N[order_N])) + 1
    return [group for group in np.split(order_N, starts) if len(group) > 1]


class Near(NamedTuple):
    """What is near, and how that was decided."""

    pairs: Pairs
    level: float  # of LEVELS
    images_at_least: int  # that are near any at the lowest level


def near(signatures_ND: np.ndarray) -> Near:
    """The pairs of rows that are near.

    All are compared with all, in tiles on the device: its time grows with their square,
    and is about ten seconds of one core for 60,000.
    """
    pairs, few = _pairs(signatures_ND), max(_PAIRS, len(signatures_ND) / 10)
    for level in LEVELS:
        found = pairs.at(level)
        number = len(found.first_P)
        if number <= few or 2 * number <= _FEW * _images(found):
            break
    return Near(found, level, _images(pairs))


def _images(pairs):
    return len(np.union1d(pairs.first_P, pairs.second_P))


def _pairs(signatures_ND):
    """Of the lowest level."""
    N, D = signatures_ND.shape
    tile = min(_TILE, max(N, 1))
    tiles = -(-N // tile)
    padded_ND = np.zeros((tiles * tile, D), np.float32)
    padded_ND[:N] = signatures_ND
    blocks = jnp.asarray(padded_ND).reshape(tiles, tile, D)
    corners = [(i, j) for i in range(tiles) for j in range(i, tiles)]
    found = [(np.zeros(0, int), np.zeros(0, int), np.zeros(0, np.float32))]
    for i, j in progress.shown(corners, len(corners), "comparing images"):
        some, cosine_BB = _compared(blocks[i], blocks[j], i == j)
        if some:
            row_P, column_P, cosine_P = _nearest(np.asarray(cosine_BB))
            found.append((row_P + i * tile, column_P + j * tile, cosine_P))
    return Pairs(*map(np.concatenate, zip(*found, strict=True)))


@jax.jit
def _compared(rows_BD, others_BD, same):
    """(whether any are near, cosine_BB); of a block with itself, above the diagonal."""
    cosine_BB = jnp.matmul(rows_BD, others_BD.T, precision="highest")
    rows_B = jnp.arange(len(rows_BD))
    above_BB = rows_B[:, None] < rows_B[None, :]
    cosine_BB = jnp.where(same & ~above_BB, -1, cosine_BB)
    return (cosine_BB >= LEVELS[0]).any(), cosine_BB


def _nearest(cosine_BB):
    """(row_P, column_P, cosine_P) of those near, at most _MOST of a row."""
    row_P, column_P = np.nonzero(cosine_BB >= LEVELS[0])
    cosine_P = cosine_BB[row_P, column_P]
    order_P = np.lexsort((-cosine_P, row_P))
    row_P, column_P, cosine_P = (part[order_P] for part in (row_P, column_P, cosine_P))
    place_P = np.arange(len(row_P)) - np.searchsorted(row_P, row_P)
    return tuple(part[place_P < _MOST] for part in (row_P, column_P, cosine_P))
