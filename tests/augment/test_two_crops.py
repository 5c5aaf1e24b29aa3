"""BYOL's two views: what each is made of, and what they refuse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import toy
from ssl_jax import augment
from ssl_jax.augment import basic, color, crops, two_crops
from ssl_jax.errors import UserError

KEY = jax.random.key(0)
STILL = dict(jitter=0.0, grey=0.0, blur=(0.0, 0.0), solarize=(0.0, 0.0), flip=False)


def noise(B, side=24, C=3):
    levels = np.random.default_rng(0).integers(0, 256, (B, side, side, C))
    return jnp.asarray(levels, jnp.uint8)


def test_without_anything_else_a_view_is_a_random_resized_crop():
    images = noise(5)
    built = two_crops.build(**STILL, side=16, area=(0.3, 0.6))
    crop_keys_B = jax.vmap(lambda key: jax.random.split(key, 9)[0])(
        jax.random.split(KEY, 5)
    )
    expected = jax.vmap(
        lambda key, image: crops.random_resized_crop(
            key, image, side=16, area=(0.3, 0.6), method="bicubic"
        )
    )(crop_keys_B, images)
    view = jax.jit(built.first)(KEY, images)
    assert view.shape == (5, 16, 16, 3) and view.dtype == jnp.float32
    np.testing.assert_allclose(view, 2 * expected - 1, atol=1e-4)


def test_first_and_second_differ_in_blur_and_solarize_alone():
    images = noise(4)
    whole = STILL | dict(area=(1.0, 1.0))
    given = two_crops.build(**whole | dict(blur=(1.0, 0.0), solarize=(0.0, 1.0)))
    plain = basic.plain(images, side=0, resize=0, mean=(0.0,), std=(255.0,))
    boxes = jax.vmap(  # the whole image, or what its ratio leaves of it
        lambda key, image: crops.random_resized_crop(
            jax.random.split(key, 9)[0],
            image,
            side=24,
            area=(1.0, 1.0),
            method="bicubic",
        )
    )(jax.random.split(KEY, 4), images)
    second = (given.second(KEY, images) + 1) / 2
    np.testing.assert_allclose(second, color.solarize(boxes), atol=1e-4)
    first = (given.first(KEY, images) + 1) / 2
    # Blurred noise is smoother, and its mean stays.
    assert first.std() < 0.9 * plain.std()
    np.testing.assert_allclose(first.mean(), boxes.mean(), atol=0.01)


def test_operations_come_in_the_papers_order_each_with_its_own_settings(monkeypatch):
    """Crop, mirror, jitter, grey, blur, solarize; before them what is asked for."""
    done = []

    def spy(module, name):
        function = getattr(module, name)

        def called(*args, **settings):
            done.append((name, settings))
            return function(*args, **settings)

        monkeypatch.setattr(module, name, called)

    spy(crops, "random_resized_crop")
    spy(basic, "flip")
    for name in ("jitter", "grey", "blur", "solarize"):
        spy(color, name)
    chances = toy.spied(monkeypatch, color, "with_probability")
    monkeypatch.setitem(
        two_crops.STRONG,
        "randaugment_google",
        lambda _, image_HWC: done.append("before") or image_HWC,
    )
    how = dict(side=20, area=(0.2, 0.9), method="bilinear")
    shades = dict(brightness=0.1, contrast=0.3, saturation=0.5, hue=0.2)
    views = two_crops.build(
        before=("none", "randaugment_google"),
        **dict(jitter=0.7, grey=0.6, blur=(0.5, 0.4), solarize=(0.3, 0.2)),
        **how,
        **shades,
    )
    expected = [
        *(("random_resized_crop", how), ("flip", {})),
        *(("jitter", shades), ("grey", {})),
        *(("blur", dict(kernel_size=3)), ("solarize", {})),
    ]
    for view, before, blur, solarize in (
        (views.first, [], 0.5, 0.3),
        (views.second, ["before"], 0.4, 0.2),
    ):
        jax.eval_shape(view, KEY, noise(2))
        assert done == before + expected
        assert [args[1] for args, _ in chances] == [0.7, 0.6, blur, solarize]
        done.clear(), chances.clear()


@pytest.mark.parametrize("probability, share", [(0.0, 0.0), (0.2, 0.2), (1.0, 1.0)])
def test_operations_come_as_often_as_asked(probability, share):
    images = noise(400, side=4)
    built = two_crops.build(**STILL | dict(grey=probability))
    view = np.asarray(jax.jit(built.first)(KEY, images))
    is_grey = np.ptp(view, axis=-1).max((1, 2)) < 1e-4
    assert is_grey.mean() == pytest.approx(share, abs=0.06)


def test_images_of_one_channel_and_odd_sides_work():
    for views in (two_crops.build(), two_crops.build(side=7, resize=8)):
        images = noise(3, side=9, C=1)
        side = views.plain(images).shape[1]
        for view in (views.first, views.second):
            x = jax.jit(view)(KEY, images)
            assert x.shape == (3, side, side, 1)
            assert bool(jnp.isfinite(x).all())


def test_what_cannot_be_is_refused_with_its_numbers():
    for wrong, message in (
        (dict(area=(0.5, 1.5)), r"area=\(0.5, 1.5\).*0 < least <= most <= 1"),
        (dict(method="lanczos"), "lanczos.*bicubic"),
        (dict(before=("lanczos", "none")), "names lanczos.*randaugment_google"),
    ):
        with pytest.raises(UserError, match=message):
            two_crops.build(**wrong)
    with pytest.raises(UserError, match="side=32 is larger than the 24x24 images"):
        two_crops.build(side=32).plain(noise(2))
    with pytest.raises(UserError, match="'four_crops' is unknown.*two_crops"):
        augment.build("four_crops")
