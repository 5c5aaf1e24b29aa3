"""Colour against Pillow, colorsys, and NumPy transcriptions of torchvision."""

import colorsys
import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance
from scipy import ndimage

from ssl_jax.augment import color
from ssl_jax.errors import UserError

ORDERS = list(itertools.permutations(range(4)))


def levels(B, H, W, C=3):
    """uint8 images; some pixels are black, white, or have two equal channels."""
    batch = np.random.default_rng(0).integers(0, 256, (B, H, W, C), np.uint8)
    batch[:, 0] = batch[:, 0, :, :1]
    batch[:, 1, :, 0] = batch[:, 1, :, -1]
    batch[:, 2, 0], batch[:, 2, 1] = 0, 255
    return batch


def keys(n, seed=0):
    return jax.random.split(jax.random.key(seed), n)


def luma(x):
    return x @ [0.2989, 0.587, 0.114] if x.shape[-1] == 3 else x[..., 0]


def turned(x, shift):
    """By colorsys, pixel by pixel."""

    def one(pixel):
        h, s, v = colorsys.rgb_to_hsv(*pixel)
        return colorsys.hsv_to_rgb((h + shift) % 1, s, v)

    return np.apply_along_axis(one, -1, x)


def sequential(x, order, factors, shift):
    """float64: torchvision's _functional_tensor, in order."""

    def blend(x, target, factor):
        return np.clip(factor * x + (1 - factor) * target, 0, 1)

    for operation in order:
        if operation == 0:
            x = blend(x, 0, factors[0])
        elif operation == 1:
            x = blend(x, luma(x).mean(), factors[1])
        elif x.shape[-1] == 1:
            pass
        elif operation == 2:
            x = blend(x, luma(x)[..., None], factors[2])
        else:
            x = turned(x, shift)
    return x


jittered = jax.jit(jax.vmap(color.jittered))


@pytest.mark.parametrize("C", [1, 3])
def test_jitter_is_sequential_in_all_24_orders(C):
    batch = levels(24, 6, 9, C).astype(np.float32) / 255
    rng = np.random.default_rng(1)
    factors = rng.uniform(0.3, 1.9, (24, 3)).astype(np.float32)
    shifts = rng.uniform(-0.5, 0.5, 24).astype(np.float32)
    ours = jittered(batch, np.array(ORDERS), factors, shifts)
    draws = zip(batch.astype(np.float64), ORDERS, factors, shifts, strict=True)
    expected = np.stack([sequential(*drawn) for drawn in draws])
    np.testing.assert_allclose(ours, expected, atol=3e-6)
    # and the orders do differ, so that a wrong one would show
    again = [sequential(batch[0], o, (1.5, 0.5, 1.8), 0.2) for o in ORDERS]
    assert len({np.round(x, 4).tobytes() for x in again}) > 1


def test_no_change_is_the_identity_exactly():
    batch = levels(24, 6, 9).astype(np.float32) / 255
    ours = jittered(batch, np.array(ORDERS), np.ones((24, 3)), np.zeros(24))
    np.testing.assert_array_equal(ours, batch)


@pytest.mark.parametrize(
    "operation, enhance",
    [
        (0, ImageEnhance.Brightness),
        (1, ImageEnhance.Contrast),
        (2, ImageEnhance.Color),
    ],
)
def test_each_factor_is_pillows(operation, enhance):
    factors = np.array([0.0, 0.4, 0.8, 1.0, 1.3, 2.0])
    batch = levels(6, 8, 8)
    factor_63 = np.where(np.arange(3) == operation, factors[:, None], 1)
    order = np.broadcast_to(np.arange(4), (6, 4))
    ours = jittered(batch / np.float32(255), order, factor_63, np.zeros(6))
    for x, factor, image in zip(np.asarray(ours), factors, batch, strict=True):
        pillow = np.asarray(enhance(Image.fromarray(image)).enhance(factor))
        # Pillow cuts the fraction, and rounds what it blends with
        assert abs(255 * x - pillow.astype(float)).max() < 1.6


def test_hue_is_colorsys():
    batch = levels(5, 6, 9).astype(np.float32) / 255
    shifts = np.array([-0.5, -0.1, 1e-3, 0.1, 1 / 3], np.float32)
    order = np.broadcast_to(np.arange(4), (5, 4))
    ours = jittered(batch, order, np.ones((5, 3)), shifts)
    expected = np.stack([turned(x, s) for x, s in zip(batch, shifts, strict=True)])
    np.testing.assert_allclose(ours, expected, atol=3e-6)


def test_draws_are_uniform():
    n = 9600
    draw = partial(color.draw, brightness=1.5, contrast=0.4, saturation=0.2, hue=0.1)
    order, factors, shift = (np.asarray(x) for x in jax.jit(jax.vmap(draw))(keys(n)))
    count = np.unique(order, axis=0, return_counts=True)[1]
    assert len(count) == 24
    assert ((count - n / 24) ** 2).sum() / (n / 24) < 60  # chi^2 of 23: p = 4e-5
    values = np.column_stack([factors, shift])
    least, most = np.array([[0, 0.6, 0.8, -0.1], [2.5, 1.4, 1.2, 0.1]])
    assert (values >= least - 1e-6).all() and (values <= most + 1e-6).all()
    quantiles = np.quantile(values, np.linspace(0, 1, 11), axis=0)
    uniform = np.linspace(least, most, 11)
    np.testing.assert_array_less(abs(quantiles - uniform) / (most - least), 0.025)
    correlations = np.corrcoef(np.column_stack([values, order]).T)[:4]
    # 5 standard deviations; the places of the order do depend on each other
    assert abs(correlations - np.eye(4, 8)).max() < 0.05


def test_jitter_is_its_draw():
    batch = levels(8, 6, 6).astype(np.float32) / 255
    ours = jax.jit(jax.vmap(color.jitter))(keys(8), batch)
    draw = partial(color.draw, brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1)
    drawn = [np.asarray(x) for x in jax.vmap(draw)(keys(8))]
    expected = [sequential(*one) for one in zip(batch, *drawn, strict=True)]
    np.testing.assert_allclose(ours, np.stack(expected), atol=3e-6)


@pytest.mark.parametrize("H, W, size", [(32, 32, 3), (9, 7, 13)])
def test_blur_is_a_gaussian_with_reflection(H, W, size):
    batch = np.random.default_rng(0).random((4, H, W, 3)).astype(np.float32)
    sigmas = np.array([0.1, 0.7, 1.3, 2.0], np.float32)
    ours = jax.jit(jax.vmap(partial(color.blurred, kernel_size=size)))(batch, sigmas)
    for x, sigma, image in zip(ours, sigmas.astype(float), batch, strict=True):
        for axis in (0, 1):
            kwargs = dict(mode="mirror", radius=size // 2)
            image = ndimage.gaussian_filter1d(image, sigma, axis, **kwargs)
        np.testing.assert_allclose(x, image, atol=2e-6)


def test_blur_draws_its_sigma_uniformly():
    """The centre of a blurred point tells sigma."""
    point = np.zeros((9, 9, 1), np.float32)
    point[4, 4] = 1
    blur = partial(color.blur, sigma=(0.5, 1.5), kernel_size=9)
    peaks = np.asarray(jax.jit(jax.vmap(blur, (0, None)))(keys(2000), point))[:, 4, 4]
    sigmas = np.linspace(0.5, 1.5, 11)
    kernel = np.exp(-0.5 * (np.arange(-4, 5) / sigmas[:, None]) ** 2)
    limits = (1 / kernel.sum(1)) ** 2  # falls with sigma
    below = (peaks >= limits).mean(0)
    np.testing.assert_allclose(below, np.linspace(0, 1, 11), atol=0.05)
    assert [color.blur_kernel_size(s) for s in (8, 32, 64, 96, 224)] == [3, 3, 7, 9, 23]


def test_grey_and_solarize():
    image = levels(1, 6, 6)[0].astype(np.float32) / 255
    grey = np.repeat(luma(image)[..., None], 3, -1)
    np.testing.assert_allclose(color.grey(image), grey, atol=1e-6)
    np.testing.assert_array_equal(color.grey(image[..., :1]), image[..., :1])
    values = np.array([0, 0.25, 0.49, 0.5, 1], np.float32).reshape(5, 1, 1)
    solarized = np.asarray(color.solarize(values)).ravel()
    np.testing.assert_allclose(solarized, [0, 0.25, 0.49, 0.5, 0], atol=1e-7)
    np.testing.assert_allclose(
        np.asarray(color.solarize(values, 0.25)).ravel(), [0, 0.75, 0.51, 0.5, 0]
    )


def test_with_probability():
    image = jnp.full((2, 2, 3), 0.2)

    def apply(p, key):
        return color.with_probability(key, p, lambda x: 1 - x, image)

    for p, low, high in [(0.0, 0, 0), (0.3, 0.25, 0.35), (1.0, 1, 1)]:
        views = np.asarray(jax.jit(jax.vmap(partial(apply, p)))(keys(2000)))
        assert (np.ptp(views, axis=(1, 2, 3)) == 0).all()  # whole images
        assert low <= (views[:, 0, 0, 0] > 0.5).mean() <= high

    def never(x):
        raise RuntimeError("p = 0 does not even trace the operation")

    color.with_probability(jax.random.key(0), 0.0, never, image)


def test_mistakes_name_the_value_and_the_remedy():
    image, key = jnp.zeros((8, 6, 3)), jax.random.key(0)
    with pytest.raises(UserError, match=r"hue=0.7.* at most 0.5"):
        color.jitter(key, image, hue=0.7)
    with pytest.raises(UserError, match=r"brightness=-0.1.* 0 or more"):
        color.jitter(key, image, brightness=-0.1)
    for size in (4, 13):
        with pytest.raises(UserError, match=rf"size={size} .*8x6.* at most 11"):
            color.blur(key, image, kernel_size=size)
    with pytest.raises(UserError, match=r"p=1.5 .* 0 to 1"):
        color.with_probability(key, 1.5, color.grey, image)
