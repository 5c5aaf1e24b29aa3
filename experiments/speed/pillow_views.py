"""Augmentation by Pillow's calls, as the PyTorch and TensorFlow codebases make them in
their CPU workers: what speeds here are compared with. Imports neither JAX nor PyTorch.
"""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter, ImageOps


def operation(
    name: str, image: Image.Image, magnitude: float, color: int | tuple[int, ...]
) -> Image.Image:
    """One of RandAugment's; names and magnitudes as `operations.apply` takes them.

    Args:
      color: where a warp finds no pixel.
    """
    return _OPERATIONS[name](image, magnitude, color)


def _affine(image, color, *coefficients):
    return image.transform(image.size, Image.AFFINE, coefficients, fillcolor=color)


_OPERATIONS = {
    "identity": lambda image, m, color: image,
    "autocontrast": lambda image, m, color: ImageOps.autocontrast(image),
    "equalize": lambda image, m, color: ImageOps.equalize(image),
    "rotate": lambda image, m, color: image.rotate(m, fillcolor=color),
    "solarize": lambda image, m, color: ImageOps.solarize(image, m),
    "posterize": lambda image, m, color: ImageOps.posterize(image, int(m)),
    "color": lambda image, m, color: ImageEnhance.Color(image).enhance(m),
    "contrast": lambda image, m, color: ImageEnhance.Contrast(image).enhance(m),
    "brightness": lambda image, m, color: ImageEnhance.Brightness(image).enhance(m),
    "sharpness": lambda image, m, color: ImageEnhance.Sharpness(image).enhance(m),
    "shear_x": lambda image, m, color: _affine(image, color, 1, m, 0, 0, 1, 0),
    "shear_y": lambda image, m, color: _affine(image, color, 1, 0, 0, m, 1, 0),
    "translate_x": lambda image, m, color: _affine(image, color, 1, 0, m, 0, 1, 0),
    "translate_y": lambda image, m, color: _affine(image, color, 1, 0, 0, 0, 1, m),
}


def crop(
    image: Image.Image, box: Sequence[int], side: int, *, flip: bool
) -> Image.Image:
    """A box (top, left, height, width), resized by the bicubic kernel, and mirrored."""
    top, left, height, width = box
    image = image.crop((left, top, left + width, top + height))
    image = image.resize((side, side), Image.Resampling.BICUBIC)
    return ImageOps.mirror(image) if flip else image


def jitter(
    image: Image.Image, order: Sequence[int], factors: Sequence[float], shift: float
) -> Image.Image:
    """Brightness, contrast, saturation and hue in this order, as torchvision's
    ColorJitter on Pillow's images."""
    for i in order:
        if i < 3:
            image = _ENHANCE[i](image).enhance(factors[i])
        else:
            hue, saturation, value = image.convert("HSV").split()
            turned = np.asarray(hue) + np.uint8(int(shift * 255) % 256)
            planes = (Image.fromarray(turned), saturation, value)
            image = Image.merge("HSV", planes).convert("RGB")
    return image


_ENHANCE = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)


def grey(image: Image.Image) -> Image.Image:
    return image.convert("L").convert("RGB")


def blur(image: Image.Image, sigma: float) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(sigma))


def smooth_noise(batch: int, height: int, width: int, channels: int) -> np.ndarray:
    """uint8 images_BHWC with the slow changes of photographs, from 1/4 of the size."""
    shape = (batch, height // 4, width // 4, channels)
    coarse = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    if channels == 1:
        coarse = coarse[..., 0]
    images = [
        Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC)
        for image in coarse
    ]
    return np.stack([np.asarray(i) for i in images]).reshape(
        -1, height, width, channels
    )
