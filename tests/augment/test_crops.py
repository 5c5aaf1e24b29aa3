"""Crops against Pillow's resize and torchvision's draws, transcribed."""

import math
import random
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from ssl_jax.augment import crops
from ssl_jax.errors import UserError

FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


def images(B, H, W, C=3):
    """Noise shows every wrong weight; at its extremes bicubic overshoots."""
    noise = np.random.default_rng(0).integers(0, 256, (B, H, W, C))
    return np.where(noise < 64, 0, np.where(noise > 191, 255, noise)).astype(np.uint8)


def pillow(image_HWC, box, side, method):
    """float64 in [0, 1]; mode "F" does not round to levels."""
    top, left, height, width = box
    out = []
    for plane_HW in np.moveaxis(image_HWC, -1, 0).astype(np.float32):
        part = Image.fromarray(plane_HW).crop((left, top, left + width, top + height))
        out.append(np.asarray(part.resize((side, side), FILTERS[method])))
    return np.clip(np.stack(out, -1).astype(np.float64) / 255, 0, 1)


@pytest.mark.parametrize("method", ["bicubic", "bilinear"])
@pytest.mark.parametrize("H, W, side", [(32, 32, 32), (40, 30, 13)])
def test_resized_is_pillows_crop_and_resize(method, H, W, side):
    boxes = [
        (0, 0, H, W),
        (0, 0, 9, 9),  # at a corner, enlarged or (for 13) nearly the same size
        (H - 7, W - 20, 7, 20),  # at the other one; unlike scales
        (H - side, W - side, side, side),  # nothing to resize
        (1, 2, 30, 21),
        (11, 13, 1, 2),
    ]
    batch = images(len(boxes), H, W)
    resize = jax.jit(jax.vmap(partial(crops.resized, side=side, method=method)))
    columns = tuple(jnp.array(boxes, jnp.int32).T)
    ours = np.asarray(resize(batch, columns))
    assert ours.dtype == np.float32
    for image, box, out in zip(batch, boxes, ours, strict=True):
        expected = pillow(image, box, side, method)
        np.testing.assert_allclose(out, expected, atol=1e-3 / 255, err_msg=str(box))


def test_resized_takes_grey_images_and_nothing_from_outside_the_box():
    image = images(1, 24, 24, 1)[0]
    inside = np.zeros_like(image)
    inside[4:12, 6:20] = image[4:12, 6:20]
    resize = jax.jit(partial(crops.resized, box=(4, 6, 8, 14), side=24))
    one, other = resize(image), resize(inside)
    assert one.shape == (24, 24, 1)
    np.testing.assert_array_equal(one, other)


def python_box(rng, H, W, area, ratio):
    """torchvision.transforms.RandomResizedCrop.get_params, line by line."""
    for _ in range(10):
        target = H * W * rng.uniform(*area)
        aspect = math.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1])))
        w = int(round(math.sqrt(target * aspect)))
        h = int(round(math.sqrt(target / aspect)))
        if 0 < w <= W and 0 < h <= H:
            return rng.randint(0, H - h), rng.randint(0, W - w), h, w
    if W / H < min(ratio):
        w = W
        h = int(round(w / min(ratio)))
    elif W / H > max(ratio):
        h = H
        w = int(round(h * max(ratio)))
    else:
        w, h = W, H
    return (H - h) // 2, (W - w) // 2, h, w


def boxes_of(n, H, W, seed=0, **ranges):
    draw = jax.jit(jax.vmap(lambda key: crops.random_box(key, H, W, **ranges)))
    return np.stack(draw(jax.random.split(jax.random.key(seed), n)), 1)


# The last: a tenth of the tries fits, so that fallbacks and late tries are common.
@pytest.mark.parametrize(
    "H, W, area, ratio",
    [
        (32, 32, (0.08, 1.0), (3 / 4, 4 / 3)),
        (20, 40, (0.6, 0.8), (0.2, 1.8)),
    ],
)
def test_random_box_is_distributed_as_torchvisions(H, W, area, ratio):
    n = 6000
    ours = boxes_of(n, H, W, area=area, ratio=ratio)
    rng = random.Random(0)
    theirs = np.array([python_box(rng, H, W, area, ratio) for _ in range(n)])
    top, left, height, width = ours.T
    assert ours.dtype == np.int32
    assert (height > 0).all() and (width > 0).all()
    assert (top >= 0).all() and (top + height <= H).all()
    assert (left >= 0).all() and (left + width <= W).all()
    assert top.min() == 0 and (top + height).max() == H
    for name, of in {
        "area": lambda b: b[:, 2] * b[:, 3] / (H * W),
        "log ratio": lambda b: np.log(b[:, 3] / b[:, 2]),
        "row of the centre": lambda b: b[:, 0] + b[:, 2] / 2,
        "column of the centre": lambda b: b[:, 1] + b[:, 3] / 2,
        "free rows": lambda b: H - b[:, 2],
    }.items():
        a, b = of(ours), of(theirs)
        error = math.sqrt((a.var() + b.var()) / n)
        assert abs(a.mean() - b.mean()) < 4.5 * error + 1e-9, name
        np.testing.assert_allclose(a.std(), b.std(), rtol=0.07, err_msg=name)
        # the largest gap of the cumulative distributions; p = 1e-4
        both = np.concatenate([a, b])
        gap = [np.searchsorted(np.sort(x), both, "right") / n for x in (a, b)]
        assert abs(gap[0] - gap[1]).max() < 2.23 * math.sqrt(2 / n), name


@pytest.mark.parametrize(
    "H, W, ratio, expected",
    [
        (10, 40, (3 / 4, 4 / 3), (0, 13, 10, 13)),  # too wide
        (40, 10, (3 / 4, 4 / 3), (13, 0, 13, 10)),  # too high
    ],
)
def test_random_box_falls_back_to_the_centre(H, W, ratio, expected):
    ours = boxes_of(50, H, W, area=(1.0, 1.0), ratio=ratio)
    np.testing.assert_array_equal(ours, np.broadcast_to(expected, (50, 4)))
    rng = random.Random(0)
    assert python_box(rng, H, W, (1.0, 1.0), ratio) == expected


def test_random_resized_crop_is_its_box_resized():
    image = images(1, 30, 30)[0]
    keys = jax.random.split(jax.random.key(3), 5)
    crop = partial(crops.random_resized_crop, side=16, area=(0.2, 0.9))
    views = jax.jit(jax.vmap(crop, (0, None)))(keys, image)
    boxes = boxes_of(5, 30, 30, seed=3, area=(0.2, 0.9)).tolist()
    for box, view in zip(boxes, views, strict=True):
        expected = pillow(image, box, 16, "bicubic")
        np.testing.assert_allclose(view, expected, atol=1e-3 / 255)


def test_central_resizes_and_crops():
    image = images(1, 32, 32)[0]
    whole = pillow(image, (0, 0, 32, 32), 27, "bilinear")
    same = image / 255
    for resize, side, expected in [
        (27, 20, whole[4:24, 4:24]),  # (27 - 20) / 2 = 3.5: torchvision takes 4
        (27, 27, whole),
        (32, 24, same[4:28, 4:28]),
        (32, 32, same),
    ]:
        ours = jax.jit(partial(crops.central, resize=resize, side=side))(image)
        np.testing.assert_allclose(ours, expected, atol=1e-3 / 255)
    wide = images(1, 20, 33)[0]
    square = pillow(wide, (0, 6, 20, 20), 12, "bilinear")
    ours = crops.central(wide, resize=12, side=12)
    np.testing.assert_allclose(ours, square, atol=1e-3 / 255)


def test_mistakes_name_the_value_and_the_remedy():
    image, key = images(1, 32, 28)[0], jax.random.key(0)
    for area in [(0.0, 1.0), (0.5, 0.2), (0.5, 1.5)]:
        with pytest.raises(UserError, match=r"augment.area=\(0.* 0 < least <= most"):
            crops.random_box(key, 32, 32, area=area)
    for view in (
        partial(crops.random_resized_crop, key, side=30),
        partial(crops.central, resize=40, side=30),
    ):
        with pytest.raises(UserError, match=r"augment.side=30 .*32x28.*image_size"):
            jax.eval_shape(view, image)
    with pytest.raises(UserError, match=r"augment.side=26 .*resize=20"):
        crops.central(image, resize=20, side=26)
    with pytest.raises(UserError, match=r"method='lanczos'.* bicubic, bilinear"):
        crops.resized(image, (0, 0, 9, 9), 8, method="lanczos")
