"""Flip, shift and cutout against NumPy, and the statistics of their draws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssl_jax.augment import basic
from ssl_jax.errors import UserError


def distinct_image(H, W, C=1):
    """uint8 [H, W, C], every pixel of a channel another level."""
    assert H * W <= 256
    levels = np.arange(H * W).reshape(H, W, 1) + 7 * np.arange(C)
    return jnp.asarray(levels % 256, jnp.uint8)


def keys(n, seed=0):
    return jax.random.split(jax.random.key(seed), n)


def test_flip_mirrors_about_half_of_the_images():
    image = distinct_image(8, 12, 3)
    views = np.asarray(jax.vmap(basic.flip, (0, None))(keys(1000), image))
    image = np.asarray(image)
    flipped = (views == image[:, ::-1]).all((1, 2, 3))
    same = (views == image).all((1, 2, 3))
    assert (flipped ^ same).all()
    assert 0.44 < flipped.mean() < 0.56  # 4 standard deviations of 1,000 draws
    assert views.dtype == np.uint8


@pytest.mark.parametrize("max_shift", [0, 3, 6])
def test_shift_is_a_reflecting_pad_and_a_crop(max_shift):
    image = distinct_image(8, 12, 3)
    views = jax.vmap(lambda k: basic.shift(k, image, max_shift=max_shift))(keys(4000))
    pad = [(max_shift, max_shift)] * 2 + [(0, 0)]
    padded = np.pad(np.asarray(image), pad, mode="reflect")
    crops = {
        padded[r : r + 8, c : c + 12].tobytes(): (r, c)
        for r in range(2 * max_shift + 1)
        for c in range(2 * max_shift + 1)
    }
    seen = [crops[view.tobytes()] for view in np.asarray(views)]  # KeyError: no crop
    assert len(set(seen)) == (2 * max_shift + 1) ** 2  # and every one of them comes up
    count = np.bincount(np.array(seen)[:, 0], minlength=2 * max_shift + 1)
    expected = 4000 / (2 * max_shift + 1)
    assert (abs(count - expected) < 4.5 * np.sqrt(expected)).all()


def test_shift_that_does_not_fit_names_both_numbers():
    with pytest.raises(UserError, match=r"shift=8 .*8x12.* 7 pixels"):
        basic.shift(jax.random.key(0), distinct_image(8, 12), max_shift=8)


def test_cutout_is_a_clipped_square_around_a_uniform_centre():
    H, W, side = 10, 14, 6
    image = jnp.full((H, W, 3), 200, jnp.uint8)
    views = jax.vmap(lambda k: basic.cutout(k, image, side=side, fill=(1, 2, 3)))(
        keys(3000)
    )
    seen = set()
    for view in np.asarray(views):
        hole = (view == (1, 2, 3)).all(-1)
        assert (view[~hole] == 200).all()
        rows, columns = np.flatnonzero(hole.any(1)), np.flatnonzero(hole.any(0))
        box = (rows[0], columns[0], rows[-1] + 1, columns[-1] + 1)
        assert hole.sum() == (box[2] - box[0]) * (box[3] - box[1])
        seen.add(box)
    expected = {
        (max(0, r - 3), max(0, c - 3), min(H, r + 3), min(W, c + 3))
        for r in range(H)
        for c in range(W)
    }
    assert seen == expected


def test_mean_area_of_cutout():
    """A side covers, over all n centres, sum min(n, i + s/2) - max(0, i - s/2) rows."""
    size, side = 16, 8
    image = jnp.zeros((size, size, 1), jnp.uint8)
    views = jax.vmap(lambda k: basic.cutout(k, image, side=side, fill=(255,)))(
        keys(4000)
    )
    i = np.arange(size)
    rows = np.minimum(size, i + side // 2) - np.maximum(0, i - side // 2)
    areas = np.asarray((views == 255).sum((1, 2, 3)))
    assert areas.min() == (side // 2) ** 2
    assert areas.max() == side**2
    np.testing.assert_allclose(areas.mean(), rows.mean() ** 2, rtol=0.02)


def test_grey_levels_undo_what_plain_does_to_them():
    """Of views smaller than `plain`'s, too."""
    image_1HWC = distinct_image(6, 7, 3)[None]
    how = dict(mean=(10.0, 20.0, 30.0), std=(40.0, 50.0, 60.0))

    def plain(images):
        return basic.plain(images, side=8, resize=0, **how)

    def shown(x_BHWC):
        return basic.grey_levels(plain, (9, 9, 3), x_BHWC)

    x_1HWC = basic.normalize(image_1HWC, **how)
    np.testing.assert_array_equal(shown(x_1HWC), image_1HWC)
    beyond_1HWC = shown(10 * jnp.ones((1, 2, 2, 3)))
    assert beyond_1HWC.dtype == jnp.uint8 and (beyond_1HWC == 255).all()
