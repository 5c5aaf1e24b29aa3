"""Augmentation of a batch on its device, every image by draws of its own.

The operations of ssl_jax/augment, in PyTorch: flip, shift, RandAugment as FixMatch's
code has it, cutout; and BYOL's two crops. Images come as uint8 [B, C, H, W] and leave
normalised, float32. Resampling and blur are products with matrices of weights, which
are quicker than grid_sample here and are Pillow's bicubic kernel, where grid_sample has
another; warps take the nearest pixel by one gather.
"""

import functools
import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

# RandAugment's, in the order of google-research/fixmatch, and their magnitudes at level
# 1 to 9: (least, change a level); None: it takes none.
OPERATIONS = {
    "identity": None,
    "autocontrast": None,
    "equalize": None,
    "rotate": (0.0, 3.0),  # degrees
    "solarize": (256.0, -25.6),
    "color": (0.1, 0.18),
    "contrast": (0.1, 0.18),
    "brightness": (0.1, 0.18),
    "sharpness": (0.1, 0.18),
    "shear_x": (0.0, 0.03),
    "translate_x": (0.0, 1.0),  # pixels
    "translate_y": (0.0, 1.0),
    "posterize": (4.0, -0.4),
    "shear_y": (0.0, 0.03),
}
_NAMES = tuple(OPERATIONS)
_WARPS = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")
_GREY, _CUTOUT = 127, 16


class Views:
    """The views of a config's section `augment`: (images_BCHW uint8) -> float32."""

    def __init__(self, given: dict):
        self.given = given

    def weak(self, images_BCHW: Tensor) -> Tensor:
        return self.normalized(self._moved(images_BCHW))

    def strong(self, images_BCHW: Tensor) -> Tensor:
        levels_BCHW = self._moved(images_BCHW).float()
        if self.given["strong"] != "none":
            levels_BCHW = cutout(randaugment(levels_BCHW))
        return self.normalized(levels_BCHW)

    def crops(self, images_BCHW: Tensor, which: int) -> Tensor:
        """BYOL's first or second view."""
        given = self.given
        x = random_crop(images_BCHW, given["side"], given["area"], flip=given["flip"])
        drawn = torch.rand(4, len(x), device=x.device)
        x = where_asked(drawn[0] < given["jitter"], self._jittered, x)
        x = where_asked(drawn[1] < given["grey"], _grey, x)
        if given["blur"][which]:
            x = where_asked(drawn[2] < given["blur"][which], blurred, x)
        if given["solarize"][which]:
            solarized = drawn[3] < given["solarize"][which]
            x = where_asked(solarized, lambda x: torch.where(x < 0.5, x, 1 - x), x)
        return self.normalized(255 * x)

    def normalized(self, levels_BCHW: Tensor) -> Tensor:
        mean, std = (
            _constant(self.given[name], levels_BCHW.device).view(1, -1, 1, 1)
            for name in ("mean", "std")
        )
        return (levels_BCHW.float() - mean) / std

    def _moved(self, images_BCHW):
        if self.given["weak"] == "none":
            return images_BCHW
        return flip_and_shift(images_BCHW, self.given["flip"], self.given["shift"])

    def _jittered(self, x_BCHW):
        names = ("brightness", "contrast", "saturation", "hue")
        return jittered(x_BCHW, *(self.given[name] for name in names))


def where_asked(asked_B: Tensor, function: Callable, images: Tensor, *drawn) -> Tensor:
    """function(images, *drawn) where asked. A CPU computes only those rows; a GPU all
    of them, because it would have to wait for their number."""
    if images.is_cuda:
        shape = (-1,) + (1,) * (images.ndim - 1)
        return torch.where(asked_B.view(shape), function(images, *drawn), images)
    rows = asked_B.nonzero().squeeze(1)
    changed = function(images[rows], *(x[rows] for x in drawn))
    return images.index_copy(0, rows, changed) if len(rows) else images


@functools.cache  # a copy to a GPU would wait for all that it has to do
def _constant(values: tuple[float, ...], device: torch.device) -> Tensor:
    return torch.tensor(values, device=device)


def flip_and_shift(images_BCHW: Tensor, flips: bool, shift: int) -> Tensor:
    """Half of them mirrored, then moved by up to `shift` pixels, with reflection."""
    B, C, H, W = images_BCHW.shape
    device = images_BCHW.device
    by_21B = torch.randint(-shift, shift + 1, (2, B, 1), device=device)
    rows_BH = _reflected(torch.arange(H, device=device) + by_21B[0], H)
    columns_BW = _reflected(torch.arange(W, device=device) + by_21B[1], W)
    if flips:
        mirrored_B1 = torch.rand(B, 1, device=device) < 0.5
        columns_BW = torch.where(mirrored_B1, W - 1 - columns_BW, columns_BW)
    index_BN = (rows_BH[:, :, None] * W + columns_BW[:, None]).view(B, H * W)
    return _gathered(images_BCHW, index_BN)


def _reflected(position, size):
    return size - 1 - (size - 1 - position.abs()).abs()


def _gathered(images_BCHW, index_BN):
    B, C, H, W = images_BCHW.shape
    index_BCN = index_BN[:, None].expand(B, C, H * W)
    return images_BCHW.reshape(B, C, H * W).gather(2, index_BCN).view(B, C, H, W)


def randaugment(levels_BCHW: Tensor, slots: int = 2) -> Tensor:
    """Two operations of 14 on each image, each with probability 0.5."""
    B, C, _, _ = levels_BCHW.shape
    device = levels_BCHW.device
    least, change = (
        _constant(tuple((m or (0.0, 0.0))[i] for m in OPERATIONS.values()), device)
        for i in (0, 1)
    )
    for _ in range(slots):
        which, level, sign, applied = torch.rand(4, B, device=device)
        operation_B = (which * len(_NAMES)).long()
        magnitude_B = least[operation_B] + change[operation_B] * (
            1 + (9 * level).floor()
        )
        signed_B = torch.where(sign < 0.5, -magnitude_B, magnitude_B)
        operation_B = torch.where(applied < 0.5, operation_B, 0)
        warps = [_NAMES.index(name) for name in _WARPS]
        asked_B = sum(operation_B == i for i in warps).bool()
        levels_BCHW = where_asked(asked_B, warped, levels_BCHW, operation_B, signed_B)
        for name, function in BY_LEVEL.items():
            if C == 1 and name == "color":
                continue
            asked_B = operation_B == _NAMES.index(name)
            levels_BCHW = where_asked(asked_B, function, levels_BCHW, magnitude_B)
    return levels_BCHW


def warped(x_BCHW: Tensor, operation_B: Tensor, magnitude_B: Tensor) -> Tensor:
    """Each image by its warp: Pillow's nearest pixel, grey where there is none."""
    B, _, H, W = x_BCHW.shape

    def when(name, value):
        return torch.where(operation_B == _NAMES.index(name), value, 0.0)[:, None, None]

    angle = when("rotate", magnitude_B).deg2rad()
    cos, sin = angle.cos(), angle.sin()
    b, d = when("shear_x", magnitude_B) - sin, when("shear_y", magnitude_B) + sin
    c = when("translate_x", magnitude_B) + W / 2 - cos * (W / 2) + sin * (H / 2)
    f = when("translate_y", magnitude_B) + H / 2 - sin * (W / 2) - cos * (H / 2)
    y_1H1 = torch.arange(H, device=x_BCHW.device)[None, :, None] + 0.5
    x_11W = torch.arange(W, device=x_BCHW.device)[None, None, :] + 0.5
    column = (cos * x_11W + b * y_1H1 + c).floor().long()
    row = (d * x_11W + cos * y_1H1 + f).floor().long()
    inside = (column >= 0) & (column < W) & (row >= 0) & (row < H)
    index_BN = torch.where(inside, row * W + column, 0).view(B, H * W)
    return torch.where(inside[:, None], _gathered(x_BCHW, index_BN), float(_GREY))


def _equalized(x_BCHW, _):
    """ImageOps.equalize: level -> (step // 2 + pixels of lower levels) // step."""
    B, C, H, W = x_BCHW.shape
    index_RN = x_BCHW.reshape(B * C, H * W).long()
    counts = torch.zeros(B * C, 256, device=x_BCHW.device)
    counts.scatter_add_(1, index_RN, torch.ones_like(index_RN, dtype=torch.float32))
    lower = counts.cumsum(1) - counts
    step = (lower.gather(1, index_RN).amax(1, keepdim=True) / 255).floor()
    table = (((step / 2).floor() + lower) / step.clamp(min=1)).floor().clamp(max=255)
    equal = table.gather(1, index_RN).view_as(x_BCHW)
    return torch.where((step > 0).view(B, C, 1, 1), equal, x_BCHW)


def _autocontrasted(x_BCHW, _):
    least = x_BCHW.amin((2, 3), keepdim=True)
    extent = x_BCHW.amax((2, 3), keepdim=True) - least
    stretched = (255.001 / extent.clamp(min=1) * (x_BCHW - least)).floor()
    return torch.where(extent > 0, stretched, x_BCHW)


def _solarized(x_BCHW, magnitude_B):
    return torch.where(x_BCHW < magnitude_B[:, None, None, None], x_BCHW, 255 - x_BCHW)


def _posterized(x_BCHW, magnitude_B):
    unit = torch.exp2(8 - magnitude_B.ceil())[:, None, None, None]
    return (x_BCHW / unit).floor() * unit


def _blended(center: Callable[[Tensor], Tensor]) -> Callable:
    """center + magnitude * (level - center), truncated."""

    def blend(x_BCHW, magnitude_B):
        center_BCHW = center(x_BCHW)
        factor = magnitude_B[:, None, None, None]
        return (center_BCHW + factor * (x_BCHW - center_BCHW)).clamp(0, 255).floor()

    return blend


def _luma(x_BCHW):
    """The grey level, [B, 1, H, W]."""
    if x_BCHW.shape[1] == 1:
        return x_BCHW
    red, green, blue = x_BCHW.split(1, 1)
    return 0.299 * red + 0.587 * green + 0.114 * blue


def _smooth(x_BCHW):
    """ImageFilter.SMOOTH: (3x3 sum + 4 x centre) / 13, the border as it is."""
    inner = (9 * F.avg_pool2d(x_BCHW, 3, 1) + 4 * x_BCHW[..., 1:-1, 1:-1]) / 13
    smooth = x_BCHW.clone()
    smooth[..., 1:-1, 1:-1] = (inner + 0.5).floor()
    return smooth


BY_LEVEL = {  # (levels_BCHW, magnitude_B) -> levels_BCHW
    "equalize": _equalized,
    "autocontrast": _autocontrasted,
    "solarize": _solarized,
    "posterize": _posterized,
    "color": _blended(lambda x: _luma(x).round()),
    "contrast": _blended(lambda x: _luma(x).mean((2, 3), keepdim=True).round()),
    "brightness": _blended(torch.zeros_like),
    "sharpness": _blended(_smooth),
}


def cutout(levels_BCHW: Tensor) -> Tensor:
    """A grey square of 16 pixels, or half the side, with a random centre."""
    B, _, H, W = levels_BCHW.shape
    half, device = min(_CUTOUT, H // 2, W // 2) // 2, levels_BCHW.device

    def near(size):
        center_B1 = (torch.rand(B, 1, device=device) * size).floor()
        position = torch.arange(size, device=device)
        return (position >= center_B1 - half) & (position < center_B1 + half)

    cut_BHW = near(H)[:, :, None] & near(W)[:, None, :]
    return torch.where(cut_BHW[:, None], float(_GREY), levels_BCHW)


def random_crop(
    images_BCHW: Tensor, side: int, area: tuple[float, float], *, flip: bool
) -> Tensor:
    """torchvision's RandomResizedCrop, bicubic, half of them mirrored: in [0, 1]."""
    B, _, H, W = images_BCHW.shape
    side, device = side or min(H, W), images_BCHW.device
    part, log_ratio = torch.rand(2, B, 10, device=device)  # ten tries
    part = H * W * (area[0] + (area[1] - area[0]) * part)
    ratio = torch.exp((2 * log_ratio - 1) * math.log(4 / 3))
    width, height = (part * ratio).sqrt().round(), (part / ratio).sqrt().round()
    fits = (width > 0) & (width <= W) & (height > 0) & (height <= H)
    first_B1 = fits.float().argmax(1, keepdim=True)
    width, height = (x.gather(1, first_B1) for x in (width, height))
    fits = fits.any(1, keepdim=True)
    width = torch.where(fits, width, min(W, round(H * 4 / 3)))
    height = torch.where(fits, height, min(H, round(W * 4 / 3)))
    corner = torch.rand(2, B, 1, device=device)
    top = (corner[0] * (H - height + 1)).floor()
    left = (corner[1] * (W - width + 1)).floor()
    of_row = _resampling(top, height, H, side)
    of_column = _resampling(left, width, W, side)
    if flip:
        mirrored = torch.rand(B, 1, 1, device=device) < 0.5
        of_column = torch.where(mirrored, of_column.flip(1), of_column)
    x = of_row[:, None] @ images_BCHW.float() @ of_column[:, None].transpose(2, 3)
    return (x / 255).clamp(0, 1)


def _resampling(start_B1, length_B1, size, side):
    """The weight of every pixel in every output, [B, side, size]."""
    scale = length_B1 / side
    output = torch.arange(side, device=scale.device) + 0.5
    center_BS1 = (start_B1 + output * scale)[:, :, None]
    pixel = torch.arange(size, device=scale.device)
    x = ((pixel + 0.5 - center_BS1) / scale.clamp(min=1)[:, :, None]).abs()
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((x - 5) * x + 8) * x * -0.5 + 2
    weight = torch.where(x < 1, near, torch.where(x < 2, far, 0.0))
    end_B1 = start_B1 + length_B1
    inside = (pixel >= start_B1[:, :, None]) & (pixel < end_B1[:, :, None])
    weight = weight * inside
    return weight / weight.sum(2, keepdim=True)


def jittered(x_BCHW, brightness, contrast, saturation, hue) -> Tensor:
    """torchvision's ColorJitter, of every image by its own factors in its own order."""
    B, C, _, _ = x_BCHW.shape
    device = x_BCHW.device
    part_4B = 2 * torch.rand(4, B, device=device) - 1
    place_4B = torch.rand(4, B, device=device).argsort(0)
    operations = [
        (lambda x, f: f * x, 1 + brightness * part_4B[0]),
        (_contrasted, 1 + contrast * part_4B[1]),
        (_saturated, 1 + saturation * part_4B[2]),
        (_turned, hue * part_4B[3]),
    ]
    for place in range(4):
        for index, (function, value_B) in enumerate(operations):
            asked_B = place_4B[index] == place
            value = value_B[:, None, None, None]
            x_BCHW = where_asked(asked_B, _clipped(function), x_BCHW, value)
    return x_BCHW


def _clipped(function):
    return lambda x, value: function(x, value).clamp(0, 1)


def _contrasted(x, factor):
    return factor * x + (1 - factor) * _luma(x).mean((2, 3), keepdim=True)


def _saturated(x, factor):
    return factor * x + (1 - factor) * _luma(x)


def _turned(x, shift):
    """RGB -> HSV, hue + shift, -> RGB."""
    red, green, blue = x.split(1, 1)
    value, least = x.amax(1, keepdim=True), x.amin(1, keepdim=True)
    chroma = value - least
    divisor = torch.where(chroma == 0, 1.0, chroma)
    sextant = torch.where(
        value == red,
        (green - blue) / divisor,
        torch.where(
            value == green, 2 + (blue - red) / divisor, 4 + (red - green) / divisor
        ),
    )
    offset = _constant((5.0, 3.0, 1.0), x.device).view(1, 3, 1, 1)
    k = (sextant + 6 * shift + offset).remainder(6)
    return value - chroma * torch.minimum(k, 4 - k).clamp(0, 1)


def _grey(x_BCHW):
    return _luma(x_BCHW).expand_as(x_BCHW)


def blurred(x_BCHW: Tensor) -> Tensor:
    """A Gaussian of BYOL's width, sigma of U(0.1, 2) for each image; reflecting."""
    B, _, H, W = x_BCHW.shape
    device, radius = x_BCHW.device, max(1, min(H, W) // 10 // 2)
    sigma = 0.1 + 1.9 * torch.rand(B, 1, 1, device=device)

    def band(size):
        tap = torch.arange(-radius, radius + 1, device=device)
        weight_B1T = torch.exp(-0.5 * (tap / sigma) ** 2)
        weight_B1T = weight_B1T / weight_B1T.sum(2, keepdim=True)
        position_ST = torch.arange(size, device=device)[:, None] + tap
        index_ST = _reflected(position_ST, size).expand(B, size, len(tap))
        empty = torch.zeros(B, size, size, device=device)
        return empty.scatter_add(2, index_ST, weight_B1T.expand_as(index_ST))

    return band(H)[:, None] @ x_BCHW @ band(W)[:, None].transpose(2, 3)
