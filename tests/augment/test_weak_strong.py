"""Views by name, their normalisation, and how they split over devices."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from PIL import Image

from ssl_jax.augment import basic, crops, ctaugment, randaugment, weak_strong
from ssl_jax.core import make_mesh
from ssl_jax.errors import UserError


def noise(B, H=16, W=16, C=3):
    levels = np.random.default_rng(0).integers(0, 256, (B, H, W, C))
    return jnp.asarray(levels, jnp.uint8)


def test_the_default_input_is_fixmatchs():
    images = noise(4)
    plain = weak_strong.build().plain(images)
    assert plain.dtype == jnp.float32
    np.testing.assert_allclose(plain, np.float32(images) * 2 / 255 - 1, atol=1e-6)


def test_every_view_is_scaled_in_the_end():
    """By Pillow's bilinear filter, after all that counts pixels."""
    images, key = noise(3, H=16, W=24), jax.random.key(0)
    kinds = dict(shift=2, strong="none")
    plainly, scaled = (weak_strong.build(**kinds, scale_to=side) for side in (0, 32))
    for view in (
        lambda views: views.plain(images),
        lambda views: views.weak(key, images),
        lambda views: views.strong(key, images),
    ):
        before, after = view(plainly), view(scaled)
        assert after.shape == (3, 32, 48, 3)
        for b, a in zip(np.asarray(before), np.asarray(after), strict=True):
            channels = [
                Image.fromarray(b[..., c]).resize((48, 32), Image.Resampling.BILINEAR)
                for c in range(3)
            ]
            np.testing.assert_allclose(np.stack(channels, -1), a, atol=1e-5)


def test_mean_and_std_are_grey_levels_per_channel():
    images = noise(4)
    mean, std = (125.3, 123.0, 113.9), (63.0, 62.1, 66.7)
    plain = weak_strong.build(mean=mean, std=std).plain(images)
    np.testing.assert_allclose(plain, (np.asarray(images) - mean) / std, atol=1e-6)
    with pytest.raises(UserError, match="std has 2 values for images of 3 channels"):
        weak_strong.build(mean=mean, std=(63.0, 62.1)).plain(images)


def test_weak_and_strong_are_the_documented_functions_of_the_key():
    images, key = noise(6), jax.random.key(3)
    built = weak_strong.build(shift=2)

    def weak_one(key, image):
        key_flip, key_shift = jax.random.split(key)
        return basic.shift(key_shift, basic.flip(key_flip, image), max_shift=2)

    def strong_one(key, image):
        key_weak, key_strong = jax.random.split(key)
        weak = weak_one(key_weak, image)
        return randaugment.randaugment_google(key_strong, weak)

    def torchssl_one(key, image):
        key_weak, key_strong = jax.random.split(key)
        strong = randaugment.randaugment_torchssl(key_strong, image, strength=0.5)
        return weak_one(key_weak, strong)

    half = dict(strong="randaugment_torchssl", strength=0.5)
    torchssl = weak_strong.build(shift=2, **half)
    for view, one in (
        (built.weak, weak_one),
        (built.strong, strong_one),
        (torchssl.strong, torchssl_one),
    ):
        expected = jax.jit(jax.vmap(one))(jax.random.split(key, 6), images)
        np.testing.assert_array_equal(
            jax.jit(view)(key, images), jax.jit(built.plain)(expected)
        )


def test_a_part_of_the_strong_view_is_a_part_of_its_strength(monkeypatch):
    """SequenceMatch's medium view."""
    asked = []

    def strong(key, image_HWC, *rates, strength, **others):
        asked.append(strength)
        return image_HWC

    monkeypatch.setitem(weak_strong.STRONG, "randaugment_google", strong)
    monkeypatch.setattr(ctaugment, "ctaugment", strong)
    for name in ("randaugment_google", "ctaugment"):
        view = weak_strong.build(strong=name, strength=0.5).strong
        args = (jax.random.key(0), noise(2), ctaugment.init())
        for part in (1.0, 0.25):
            jax.eval_shape(partial(view, part=part), *args)
    assert asked == [0.5, 0.125] * 2


def test_a_crop_for_a_weak_view_is_of_the_mirrored_image():
    images, key = noise(5, H=12, W=16), jax.random.key(3)
    how = dict(side=8, area=(0.2, 0.6))
    built = weak_strong.build(weak="crop", strong="none", **how)

    @jax.jit
    @jax.vmap
    def expected(key, image):
        key_flip, key_crop = jax.random.split(key)
        image = basic.flip(key_flip, image)
        return crops.random_resized_crop(key_crop, image, method="bilinear", **how)

    levels = np.round(255 * expected(jax.random.split(key, 5), images))
    np.testing.assert_allclose(built.weak(key, images), levels / 127.5 - 1, atol=1e-2)


@pytest.mark.parametrize(
    "strong, translate", [("ctaugment", "side"), ("ctaugment_google", "pixel")]
)
def test_ctaugment_gets_the_weak_view_and_its_settings(monkeypatch, strong, translate):
    """Its operations, which test_ctaugment.py has, replaced by noise."""
    images, key, rates = noise(6), jax.random.key(3), ctaugment.init()
    asked = []

    def noised(key, image, *rest, **settings):
        asked.append(settings)
        return image ^ jax.random.bits(key, image.shape, "uint8")

    monkeypatch.setattr(ctaugment, "ctaugment", noised)
    monkeypatch.setattr(ctaugment, "probe", lambda *a, **s: (noised(*a, **s), a[0]))
    built = weak_strong.build(shift=2, strong=strong, strength=0.5)
    view = jax.jit(built.strong)(key, images, rates)
    probed, drawn = jax.jit(built.probe)(key, images)

    @jax.jit
    @jax.vmap
    def expected(key, image):
        key_weak, key_strong = jax.random.split(key)
        key_flip, key_shift = jax.random.split(key_weak)
        weak = basic.shift(key_shift, basic.flip(key_flip, image), max_shift=2)
        return noised(key_strong, weak), key_strong

    expected_BHWC, key_strong_B = expected(jax.random.split(key, 6), images)
    np.testing.assert_array_equal(view, built.plain(expected_BHWC))
    np.testing.assert_array_equal(probed, built.plain(expected_BHWC))
    assert (drawn == key_strong_B).all()
    jax.jit(partial(built.strong, cutout=False))(key, images, rates)  # ReMixMatch's
    assert asked[0].pop("cutout") and not asked[-1]["cutout"]
    changed = dict(strength=0.5, translate=translate)
    assert asked[1] == changed and asked[0].pop("rates").shape == rates.shape
    assert asked[0] == changed


def test_only_ctaugment_probes_and_asks_for_rates():
    images, key = noise(6, 8, 8, 1), jax.random.key(3)
    with pytest.raises(UserError, match="'ctaugment' needs rates.*randaugment_google"):
        weak_strong.build(strong="ctaugment").strong(key, images)
    other = weak_strong.build(shift=0, strong="none")
    assert other.probe is None
    np.testing.assert_array_equal(
        other.strong(key, images, ctaugment.init()), other.strong(key, images)
    )


def test_none_leaves_out_its_part():
    images, key = noise(16), jax.random.key(0)
    untouched = weak_strong.build(weak="none", strong="none")
    np.testing.assert_array_equal(untouched.weak(key, images), untouched.plain(images))
    np.testing.assert_array_equal(
        untouched.strong(key, images), untouched.plain(images)
    )
    unflipped = weak_strong.build(flip=False, shift=0)
    np.testing.assert_array_equal(unflipped.weak(key, images), unflipped.plain(images))
    assert (
        weak_strong.build(shift=0).weak(key, images) != unflipped.plain(images)
    ).any()


@pytest.mark.parametrize(
    "wrong, message",
    [
        (dict(weak="pan"), r"augment.weak='pan'.*shift, crop, none"),
        (
            dict(strong="randaugment"),
            r"'randaugment'.*randaugment_google, randaugment_torchssl, none, ctaugment",
        ),
    ],
)
def test_an_unknown_name_lists_the_known_ones(wrong, message):
    with pytest.raises(UserError, match=message):
        weak_strong.build(**wrong)


def test_a_shift_larger_than_the_image_is_found_when_tracing():
    with pytest.raises(UserError, match="shift=12 does not fit 8x8"):
        jax.eval_shape(
            weak_strong.build(shift=12).weak, jax.random.key(0), noise(2, 8, 8)
        )


@pytest.mark.parametrize(
    "strong", ["randaugment_google", "randaugment_torchssl", "ctaugment"]
)
def test_rows_stay_on_their_device(strong):
    """Compiled for 4 devices the strong view exchanges nothing, and is the same."""
    mesh = make_mesh()
    rows = NamedSharding(mesh, P("data"))
    images, key, rates = noise(8), jax.random.key(1), ctaugment.init()
    strong_view = weak_strong.build(strong=strong).strong
    view = jax.jit(strong_view, out_shardings=rows)
    split = jax.device_put(images, rows)
    with jax.set_mesh(mesh):
        compiled = view.lower(key, split, rates).compile()
    exchanges = "all-reduce|all-gather|all-to-all|collective|reduce-scatter|send|recv"
    assert not re.findall(rf" ({exchanges})[\w-]*\(", compiled.as_text())
    alone = jax.jit(strong_view)(key, images, rates)
    np.testing.assert_array_equal(compiled(key, split, rates), alone)
