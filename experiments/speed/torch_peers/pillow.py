"""Augmentation by Pillow, an image at a time, in the workers of a DataLoader: as the
public PyTorch codebases have it. The views of a config's section `augment`.
"""

import math
import random

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from experiments.speed import pillow_views
from experiments.speed.torch_peers.batched import OPERATIONS

_NAMES = tuple(OPERATIONS)
_WARPS = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")
_CUTOUT, _GREY = 16, 127


class Augmented(Dataset):
    """An image's views: item (kind, row) is (kind, views, label), where kind says
    whether it is drawn as a labeled, an unlabeled, or BYOL's image."""

    def __init__(self, images_NHWC: np.ndarray, labels_N: np.ndarray, given: dict):
        self.images_NHWC, self.labels_N, self.given = images_NHWC, labels_N, given

    def __getitem__(self, item: tuple[str, int]) -> tuple[str, list[Tensor], int]:
        kind, row = item
        image_HWC = self.images_NHWC[row]
        views = {
            "labeled": lambda: [self._weak(image_HWC)],
            "unlabeled": lambda: [self._weak(image_HWC), self._strong(image_HWC)],
            "crops": lambda: [self._crop(image_HWC, which) for which in (0, 1)],
        }[kind]()
        return kind, [self._normalized(view) for view in views], int(self.labels_N[row])

    def _weak(self, image_HWC):
        if self.given["weak"] == "none":
            return image_HWC
        return flip_and_shift(image_HWC, self.given["flip"], self.given["shift"])

    def _strong(self, image_HWC):
        image_HWC = self._weak(image_HWC)
        return image_HWC if self.given["strong"] == "none" else randaugment(image_HWC)

    def _crop(self, image_HWC, which):
        given = self.given
        side = given["side"] or min(image_HWC.shape[:2])
        box = random_box(*image_HWC.shape[:2], given["area"])
        flip = given["flip"] and random.random() < 0.5
        image = pillow_views.crop(Image.fromarray(image_HWC), box, side, flip=flip)
        if random.random() < given["jitter"]:
            strengths = [given[n] for n in ("brightness", "contrast", "saturation")]
            factors = [random.uniform(1 - s, 1 + s) for s in strengths]
            shift = random.uniform(-given["hue"], given["hue"])
            order = random.sample(range(4), 4)
            image = pillow_views.jitter(image, order, factors, shift)
        if random.random() < given["grey"]:
            image = pillow_views.grey(image)
        if random.random() < given["blur"][which]:
            image = pillow_views.blur(image, random.uniform(0.1, 2.0))
        if random.random() < given["solarize"][which]:
            image = pillow_views.operation("solarize", image, 128, 0)
        return np.asarray(image)

    def _normalized(self, image_HWC):
        """torchvision's ToTensor and Normalize."""
        image_CHW = torch.from_numpy(np.array(image_HWC)).permute(2, 0, 1)
        mean, std = (
            torch.tensor(self.given[name]).view(-1, 1, 1) for name in ("mean", "std")
        )
        return image_CHW.float().sub_(mean).div_(std)


def collated(items: list) -> tuple[list[Tensor], Tensor]:
    """(views, labels_B) of a step: all labeled images, then each view of the others."""
    labels_B = torch.tensor([label for kind, _, label in items if kind != "unlabeled"])
    views = []
    for wanted in ("labeled", "unlabeled", "crops"):
        found = [each for kind, each, _ in items if kind == wanted]
        views += [torch.stack(view) for view in zip(*found, strict=True)]
    return views, labels_B


class Steps(Sampler):
    """The items of each step of an epoch of `steps`, drawn at random."""

    def __init__(self, drawn: dict[str, tuple[int, int]]):
        """
        Args:
          drawn: by kind, of how many rows how many are drawn a step.
        """
        self.drawn, self.steps = drawn, 0

    def __len__(self):
        return self.steps

    def __iter__(self):
        for _ in range(self.steps):
            yield [
                (kind, random.randrange(rows))
                for kind, (rows, count) in self.drawn.items()
                for _ in range(count)
            ]


def flip_and_shift(image_HWC: np.ndarray, flips: bool, shift: int) -> np.ndarray:
    """Mirrored or not, then a crop of the image padded by reflection."""
    H, W, _ = image_HWC.shape
    if flips and random.random() < 0.5:
        image_HWC = image_HWC[:, ::-1]
    if not shift:
        return image_HWC
    padded = np.pad(image_HWC, ((shift, shift), (shift, shift), (0, 0)), "reflect")
    row, column = random.randint(0, 2 * shift), random.randint(0, 2 * shift)
    return padded[row : row + H, column : column + W]


def randaugment(image_HWC: np.ndarray) -> np.ndarray:
    """Two operations of 14, each with probability 0.5, and cutout."""
    H, W, C = image_HWC.shape
    color = (_GREY,) * 3 if C == 3 else _GREY
    image = opened(image_HWC)
    for _ in range(2):
        name, level = random.choice(_NAMES), random.randint(1, 9)
        if random.random() < 0.5 or (C == 1 and name == "color"):
            continue
        least, change = OPERATIONS[name] or (0.0, 0.0)
        magnitude = least + change * level
        if name == "posterize":
            magnitude = math.ceil(magnitude)  # bits
        if name in _WARPS and random.random() < 0.5:
            magnitude = -magnitude
        image = pillow_views.operation(name, image, magnitude, color)
    half = min(_CUTOUT, H // 2, W // 2) // 2
    row, column = random.randrange(H), random.randrange(W)
    box = (max(column - half, 0), max(row - half, 0), column + half, row + half)
    image = image.copy()  # an identity is the array's own memory
    image.paste(color, box)
    return np.asarray(image).reshape(H, W, C)


def opened(image_HWC: np.ndarray) -> Image.Image:
    """Pillow's, in colour or grey."""
    return Image.fromarray(image_HWC if image_HWC.shape[2] == 3 else image_HWC[..., 0])


def random_box(H: int, W: int, area: tuple[float, float]) -> tuple[int, ...]:
    """torchvision's RandomResizedCrop.get_params: top, left, height, width."""
    for _ in range(10):
        part = H * W * random.uniform(*area)
        ratio = math.exp(random.uniform(math.log(3 / 4), math.log(4 / 3)))
        width, height = round(math.sqrt(part * ratio)), round(math.sqrt(part / ratio))
        if 0 < width <= W and 0 < height <= H:
            top, left = random.randint(0, H - height), random.randint(0, W - width)
            return top, left, height, width
    return 0, 0, H, W
