"""Large and small crops: what they share with two crops, and what they do not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import toy
from ssl_jax.augment import color, multi_crop, two_crops
from ssl_jax.errors import UserError

KEY = jax.random.key(0)
STILL = dict(jitter=0.0, grey=0.0, blur=(0.0, 0.0), solarize=(0.0, 0.0), flip=False)
STILL |= dict(small_blur=0.0)


def noise(B, side=24, C=3):
    levels = np.random.default_rng(0).integers(0, 256, (B, side, side, C))
    return jnp.asarray(levels, jnp.uint8)


def test_large_crops_are_two_crops_and_small_ones_of_another_area_and_side():
    images = noise(3)
    two = {name: value for name, value in STILL.items() if name != "small_blur"}
    built = multi_crop.build(**STILL, side=16, small_side=10, small_area=(0.1, 0.2))
    large = two_crops.build(**two, side=16, area=(0.4, 1.0))
    for name in ("first", "second"):
        np.testing.assert_array_equal(
            getattr(built, name)(KEY, images), getattr(large, name)(KEY, images)
        )
    np.testing.assert_array_equal(built.plain(images), large.plain(images))
    small = built.small(KEY, images)
    assert small.shape == (3, 10, 10, 3)
    of_small = two_crops.build(**two, side=10, area=(0.1, 0.2))
    np.testing.assert_array_equal(small, of_small.first(KEY, images))


def test_small_crops_are_blurred_by_their_own_probability_and_not_solarized(
    monkeypatch,
):
    built = multi_crop.build(
        **dict(jitter=0.7, grey=0.6, blur=(0.5, 0.4), solarize=(0.3, 0.2)),
        small_blur=0.1,
    )
    chances = toy.spied(monkeypatch, color, "with_probability")
    jax.eval_shape(built.small, KEY, noise(2))
    assert [args[1] for args, _ in chances] == [0.7, 0.6, 0.1, 0.0]


@pytest.mark.parametrize("side, small", [(0, 12), (16, 8)])
def test_small_crops_have_half_the_side_unless_told(side, small):
    built = multi_crop.build(side=side)
    shape = jax.eval_shape(built.small, KEY, noise(2)).shape
    assert shape == (2, small, small, 3)


def test_an_impossible_small_area_is_refused_at_once():
    with pytest.raises(UserError, match=r"\(0.5, 0.2\) is not a range"):
        multi_crop.build(small_area=(0.5, 0.2))
