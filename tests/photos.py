"""Folders of small images, for tests of what is read from them."""

import numpy as np
from PIL import Image

from ssl_jax.data.sources import folder
from ssl_jax.data.wanted import Wanted


def load(root, **settings):
    return folder.load(Wanted(name="folder", dir=str(root), **settings))


def save(path, seed=0, size=(8, 8), mode="RGB", **options):
    """Writes noise, (height, width) = size; returns what was written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = size if mode == "L" else (*size, len(mode))
    pixels = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    Image.fromarray(pixels, mode=None).save(path, **options)
    return pixels


def fill(root, *names, **options):
    """Noise, another one in each file."""
    for seed, name in enumerate(names):
        save(root / name, seed, **options)
