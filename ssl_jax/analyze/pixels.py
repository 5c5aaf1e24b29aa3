"""One look at every image, as a run would see it."""

import hashlib
from typing import NamedTuple

import numpy as np

from ssl_jax.analyze import copies
from ssl_jax.data import progress
from ssl_jax.data.streams import Images, gathered

_BLOCK = 512  # images at a time


class Pixels(NamedTuple):
    """What there is to be known of N images without keeping them."""

    digest_N: np.ndarray  # uint64: the same for the same pixels
    signature_ND: np.ndarray  # float32, of `copies.signatures`
    grey_N: np.ndarray  # bool: every pixel has the same value in all channels
    flat_N: np.ndarray  # bool: all pixels are one
    mean_NC: np.ndarray  # float64, grey levels
    square_NC: np.ndarray  # float64: the mean of their squares


def look(images_NHWC: np.ndarray | Images, what: str) -> Pixels:
    """Args:
      what: they are, for whoever waits.

    Raises:
      UserError: an image of a stream cannot be decoded.
    """
    N, C = len(images_NHWC), images_NHWC.shape[3]
    rows = np.arange(N)
    # The last block is padded by its own images, so that one size is compiled.
    size = min(_BLOCK, max(N, 1))
    indices = [np.resize(rows[i : i + size], size) for i in range(0, N, size)]
    parts = [_of_none(C)]
    blocks = gathered(images_NHWC, indices)
    what = f"looking at {what}"
    for block in progress.shown(blocks, len(indices) * size, what, size=len):
        parts.append(_of_block(np.asarray(block)))
    return Pixels(*(np.concatenate(part)[:N] for part in zip(*parts, strict=True)))


def _of_block(images_BHWC):
    flat_BPC = images_BHWC.reshape(len(images_BHWC), -1, images_BHWC.shape[3])
    levels_BPC = flat_BPC.astype(np.float32)
    return Pixels(
        np.array([_digest(image) for image in images_BHWC], np.uint64),
        np.asarray(copies.signatures(images_BHWC)),
        (flat_BPC == flat_BPC[:, :, :1]).all(axis=(1, 2)),
        (flat_BPC == flat_BPC[:, :1]).all(axis=(1, 2)),
        levels_BPC.mean(axis=1, dtype=np.float64),
        (levels_BPC**2).mean(axis=1, dtype=np.float64),
    )


def _of_none(C):
    none, D = np.zeros(0, bool), copies.signatures(np.zeros((1, 8, 8, C))).shape[1]
    of_channels = np.zeros((0, C))
    return Pixels(
        np.zeros(0, np.uint64),
        np.zeros((0, D), np.float32),
        none,
        none,
        of_channels,
        of_channels,
    )


def _digest(image_HWC):
    """Of 64 bits: among a million images two that differ share one with a chance of
    3e-8."""
    hashed = hashlib.blake2b(np.ascontiguousarray(image_HWC), digest_size=8)
    return int.from_bytes(hashed.digest(), "little")


def channels(pixels: Pixels, rows: np.ndarray) -> tuple[list[float], list[float]]:
    """(mean, standard deviation) of each channel over all pixels of these images."""
    mean_C = pixels.mean_NC[rows].mean(axis=0)
    square_C = pixels.square_NC[rows].mean(axis=0)
    std_C = np.sqrt(np.maximum(square_C - mean_C**2, 0))
    return mean_C.round(3).tolist(), std_C.round(3).tolist()
