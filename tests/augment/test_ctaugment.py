"""CTAugment: its operations against Pillow, its rates against the published procedure.

The references are plain-Python transcriptions of google-research/fixmatch,
libml/ctaugment.py.
"""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from ssl_jax.algorithms.shared import ema_teacher
from ssl_jax.augment import ctaugment, weak_strong
from ssl_jax.augment.ctaugment import BINS, Drawn
from ssl_jax.augment.operations import OPERATIONS
from ssl_jax.core import make_mesh

RESAMPLING = ("LANCZOS", "BICUBIC", "BILINEAR", "BOX", "HAMMING", "NEAREST")


def pillow(name, image, level, second, center, translate):
    """`image` (PIL) changed as the published code does, translations but for "pixel"
    in parts of the side, and a cutout at the given centre (row, column)."""
    W, H = image.size
    signed = 2 * level - 1
    of_x, of_y = (W, H) if translate == "side" else (1, 1)
    blended = {
        "autocontrast": ImageOps.autocontrast,
        "equalize": ImageOps.equalize,
        "invert": ImageOps.invert,
        "blur": lambda x: x.filter(ImageFilter.BLUR),
        "smooth": lambda x: x.filter(ImageFilter.SMOOTH),
    }
    affine = {
        "shear_x": (1, 0.3 * signed, 0, 0, 1, 0),
        "shear_y": (1, 0, 0, 0.3 * signed, 1, 0),
        "translate_x": (1, 0, 0.3 * signed * of_x, 0, 1, 0),
        "translate_y": (1, 0, 0, 0, 1, 0.3 * signed * of_y),
    }
    if name in blended:
        return Image.blend(image, blended[name](image), level)
    if name in affine:
        return image.transform(image.size, Image.AFFINE, affine[name])
    if name in ("brightness", "color", "contrast", "sharpness"):
        return getattr(ImageEnhance, name.title())(image).enhance(0.1 + 1.9 * level)
    if name == "rotate":
        return image.rotate(int(np.round(signed * 45)))
    if name == "posterize":
        return ImageOps.posterize(image, 1 + int(level * 7.999))
    if name == "solarize":
        return ImageOps.solarize(image, int(level * 255.999))
    if name == "rescale":
        cut = 0.25 * level
        box = (cut * W, cut * H, W * (1 - cut), H * (1 - cut))
        method = getattr(Image, RESAMPLING[int(second * 5.99)])
        return image.crop(box).resize(image.size, method)
    if name == "cutout":
        half = (1 + int(level * min(W, H) * 0.499)) // 2
        (row, column), out = center, np.array(image)
        rows = slice(max(0, row - half), min(H, row + half))
        out[rows, max(0, column - half) : min(W, column + half)] = 127
        return Image.fromarray(out)
    assert name == "identity"
    return image


def smooth_images(B, H, W, C):
    rng = np.random.default_rng(H * W)
    coarse = rng.integers(0, 256, (B, 4, 4, C)).astype(np.uint8)
    # Ranges differ, and the last image is of one level.
    span = np.linspace(1, 0, B)[:, None, None, None]
    coarse = (127 + span * (coarse - 127.0)).astype(np.uint8)
    images = [
        np.asarray(Image.fromarray(x.squeeze()).resize((W, H), Image.BICUBIC))
        for x in coarse
    ]
    return np.stack(images).reshape(B, H, W, C)


@partial(jax.jit, static_argnames="translate")
def apply_one_each(
    images_BHWC, operation_B, level_B2, center_B2, strength, translate="side"
):
    def one(image, operation, level_2, center_2):
        drawn = Drawn(operation[None], level_2[None], center_2[None])
        return ctaugment.apply(image, drawn, strength=strength, translate=translate)

    return jax.vmap(one)(images_BHWC, operation_B, level_B2, center_B2)


# Those that change no image: equalize needs 255 pixels, and color more than grey.
TRANSLATIONS = {"translate_x", "translate_y"}  # of the published code: of 0.3 pixels
IDLE = {
    ((20, 28, 3), "side"): {"identity"},
    ((8, 8, 1), "pixel"): {"identity", "equalize", "color", *TRANSLATIONS},
}


@pytest.mark.parametrize("shape, translate", IDLE)
def test_each_operation_is_pillows(shape, translate):
    """Within one grey level for 99% of an image's pixels, exactly for 98% of all.

    Float32 puts a rotated coordinate that Pillow's doubles have on a pixel's border on
    its other side, and a blend at a whole number below it.
    """
    operations, L = len(OPERATIONS), 12
    rng = np.random.default_rng(0)
    images = smooth_images(L, *shape)
    level_OL2 = rng.uniform(size=(operations, L, 2)).astype(np.float32)
    level_OL2[:, 0, 0], level_OL2[:, 1, 0] = 0, 1 - 2.0**-23
    level_OL2[:, :, 1] = (np.arange(L) + 0.5) / L  # each method of rescale twice
    center_OL2 = rng.uniform(size=(operations, L, 2)).astype(np.float32)
    drawn = (
        jnp.asarray(np.tile(images, (operations, 1, 1, 1))),
        np.repeat(np.arange(operations), L),
        level_OL2.reshape(-1, 2),
        center_OL2.reshape(-1, 2),
    )
    untouched = apply_one_each(*drawn, 0.0, translate)
    np.testing.assert_array_equal(untouched, drawn[0])

    ours_OLHWC = np.asarray(apply_one_each(*drawn, 1.0, translate))
    ours_OLHWC = ours_OLHWC.reshape(operations, *images.shape)
    for o, name in enumerate(OPERATIONS):
        theirs = [
            pillow(
                name,
                Image.fromarray(image.squeeze()),
                *level_2.tolist(),
                np.floor(center_2 * shape[:2]).astype(int),
                translate,
            )
            for image, level_2, center_2 in zip(
                images, level_OL2[o], center_OL2[o], strict=True
            )
        ]
        theirs = np.stack(theirs).reshape(images.shape)
        difference = abs(ours_OLHWC[o].astype(int) - theirs)
        close = (difference <= 1).mean((1, 2, 3))
        assert close.min() >= 0.99, (name, close, level_OL2[o])
        assert (difference == 0).mean() >= 0.98, name
        idle = name in IDLE[shape, translate]
        assert (ours_OLHWC[o] == images).all() == idle, name


def test_strength_is_the_part_of_each_range_from_no_change():
    def magnitudes(level, strength):
        values = ctaugment._magnitudes(level, (40, 40, 3), strength, (12.0, 12.0))
        return dict(zip(OPERATIONS, values.tolist(), strict=True))

    most, least = magnitudes(1.0, 0.5), magnitudes(0.0, 0.5)
    assert most["rotate"] == 22 and least["translate_x"] == -6  # 22.5 to even
    assert most["posterize"] == 8 and least["posterize"] == 4.5
    assert least["solarize"] == 128
    assert most["brightness"] == pytest.approx(1.5)
    assert least["brightness"] == pytest.approx(0.55)
    assert most["blur"] == 0.5 and most["rescale"] == 0.125
    assert most["cutout"] == 5 and magnitudes(1.0, 1.0)["cutout"] == 10


def test_two_operations_and_then_cutout_of_half_the_side_or_none():
    B = 64
    images = jnp.asarray(smooth_images(2, 16, 16, 1)[:1].repeat(B, 0))
    keys = jax.random.split(jax.random.key(0), B)
    rates = ctaugment.init()

    @jax.jit
    @partial(jax.vmap, in_axes=(0, 0, None))
    def strong(key, image, strength):
        drawn = ctaugment.draw(jax.random.split(key)[0], rates)
        return (
            ctaugment.ctaugment(key, image, rates, strength=strength),
            ctaugment.ctaugment(key, image, rates, strength=strength, cutout=False),
            ctaugment.apply(image, drawn, strength=strength, translate="side"),
        )

    np.testing.assert_array_equal(strong(keys, images, 0.0)[0], images)
    views, uncut, operated = map(np.asarray, strong(keys, images, 1.0))
    np.testing.assert_array_equal(uncut, operated)
    assert views.dtype == np.uint8
    for view in views:
        # At least a quarter of the 8 x 8 pixels is inside: 4 x 4.
        windows = np.lib.stride_tricks.sliding_window_view(view[..., 0] == 127, (4, 4))
        assert windows.all((2, 3)).any()


def plain_rates():
    rates = {}
    for name, bins in zip(OPERATIONS, BINS, strict=True):
        rates[name] = [np.ones(n) for n in bins if n]
    return rates


def plain_update(rates, policy, proximity):
    for name, levels in policy:
        for level, rate in zip(levels, rates[name], strict=True):
            i = int(level * len(rate) * 0.999)
            rate[i] = rate[i] * 0.99 + proximity * (1 - 0.99)


def plain_policy(operation_S, level_S2, rates):
    names = [OPERATIONS[o] for o in operation_S]
    levels = np.asarray(level_S2, float)
    return [(n, v[: len(rates[n])]) for n, v in zip(names, levels, strict=True)]


def assert_rates(rates_OPV, expected):
    for o, name in enumerate(OPERATIONS):
        for i, rate in enumerate(expected[name]):
            np.testing.assert_allclose(rates_OPV[o, i, : len(rate)], rate, atol=1e-6)
        assert (rates_OPV[o, len(expected[name]) :] == 0).all()


def plain_p(rate):
    p = rate + (1 - 0.99)
    p = p / p.max()
    p[p < 0.80] = 0
    return p / p.sum()


def test_the_published_bins():
    bins = {name: [len(r) for r in rate] for name, rate in plain_rates().items()}
    assert len(bins) == 19  # of OPS
    assert bins.pop("identity") == [] and bins.pop("posterize") == [8]
    assert bins.pop("rescale") == [17, 6]
    assert set(map(tuple, bins.values())) == {(17,)}


def test_update_is_the_published_loop():
    """200 batches of 48 images: 96 hits on 307 bins, so that some come repeatedly."""
    rng = np.random.default_rng(0)
    draw = jax.jit(jax.vmap(ctaugment.draw_probe))
    update = jax.jit(ctaugment.update)
    rates, expected = ctaugment.init(), plain_rates()
    for step in range(200):
        drawn = draw(jax.random.split(jax.random.key(step), 48))
        if step % 10 == 0:  # all on few bins
            operation = drawn.operation_S % 2 + OPERATIONS.index("posterize")
            level = drawn.level_S2.at[..., 1].set(0)
            drawn = drawn._replace(operation_S=operation, level_S2=level)
        proximity_B = rng.uniform(size=48).astype(np.float32)
        rates = update(rates, drawn, proximity_B)
        for operation_S, level_S2, proximity in zip(
            np.asarray(drawn.operation_S),
            np.asarray(drawn.level_S2),
            proximity_B.astype(float),
            strict=True,
        ):
            policy = plain_policy(operation_S, level_S2, expected)
            plain_update(expected, policy, proximity)
    assert_rates(rates, expected)
    assert 0.3 < min(rate.min() for rate in expected["posterize"]) < 0.7


def uneven_rates():
    noise = np.random.default_rng(3).uniform(0.5, 1, BINS.shape + (17,))
    return ctaugment.init() * noise.astype(np.float32)


def test_training_draws_from_the_bins_that_are_still_recognised():
    rates = uneven_rates()
    p_OPV = np.asarray(ctaugment.bin_probabilities(rates))
    draw = jax.jit(jax.vmap(ctaugment.draw, in_axes=(0, None)))
    drawn = draw(jax.random.split(jax.random.key(0), 20_000), rates)
    operation = np.asarray(drawn.operation_S).ravel()
    level_M2 = np.asarray(drawn.level_S2, float).reshape(-1, 2)
    assert drawn.operation_S.shape == (20_000, 2)
    count = np.bincount(operation, minlength=19)
    assert abs(count - 40_000 / 19).max() < 4.5 * np.sqrt(40_000 / 19)
    for o, i in np.ndindex(*BINS.shape):
        n = BINS[o, i]
        levels = level_M2[operation == o, i]
        if not n:
            assert (p_OPV[o, i] == 0).all() and (levels == 0).all()
            continue
        expected = plain_p(np.asarray(rates[o, i, :n], float))
        np.testing.assert_allclose(p_OPV[o, i, :n], expected, atol=1e-6)
        assert (p_OPV[o, i, n:] == 0).all() and 0 < (expected == 0).sum() < n
        bins, within = np.divmod(levels * n, 1)
        # float32 has (bin + u) / n a rounding apart: only u near 0 can change bins.
        settled = (within > 1e-5) & (within < 1 - 1e-5)
        count = np.bincount(bins[settled].astype(int), minlength=n)
        slack = 4.5 * np.sqrt(len(levels) * expected)
        assert (abs(count - len(levels) * expected) <= slack + 1).all(), OPERATIONS[o]
        assert (count[expected == 0] == 0).all()
        assert abs(within.mean() - 0.5) < 4.5 * np.sqrt(1 / 12 / len(within))


def test_probes_are_uniform_in_level():
    drawn = jax.jit(jax.vmap(ctaugment.draw_probe))(
        jax.random.split(jax.random.key(0), 20_000)
    )
    levels = np.asarray(drawn.level_S2)[np.asarray(drawn.operation_S) == 18, 0]
    deciles = np.histogram(levels, 10, (0, 1))[0]
    slack = 4.5 * np.sqrt(len(levels) / 10)
    assert abs(deciles - len(levels) / 10).max() < slack


def test_four_devices_update_as_one():
    """The batch is split; all that is exchanged is sums."""
    mesh = make_mesh()
    rows = NamedSharding(mesh, P("data"))
    drawn = jax.vmap(ctaugment.draw_probe)(jax.random.split(jax.random.key(0), 32))
    proximity_B = np.random.default_rng(0).uniform(size=32).astype(np.float32)
    args = (uneven_rates(), *jax.device_put((drawn, proximity_B), rows))
    with jax.set_mesh(mesh):
        compiled = jax.jit(ctaugment.update).lower(*args).compile()
    exchanges = re.findall(
        r"\b(all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter"
        r"|collective-broadcast|ragged-all-to-all)(?:-start)?\(",
        compiled.as_text(),
    )
    assert set(exchanges) == {"all-reduce"}
    alone = jax.jit(ctaugment.update)(uneven_rates(), drawn, proximity_B)
    np.testing.assert_allclose(compiled(*args), alone, rtol=0, atol=1e-7)
    assert (alone != uneven_rates()).sum() > 30


class _Linear(nn.Module):
    @nn.compact
    def __call__(self, x_BHWC, *, train):
        logits_BK = nn.Dense(3)(x_BHWC.reshape(len(x_BHWC), -1))
        return -logits_BK if train else logits_BK  # the rates are of a network judged


class _Learner:
    model, tx = _Linear(), optax.sgd(0.1)

    def __init__(self, views):
        self.views = views


def test_the_teachers_predictions_move_the_rates():
    B, key = 6, jax.random.key(1)
    images = jnp.asarray(smooth_images(B, 8, 8, 1))
    batch = {"image": images, "label": jnp.arange(B) % 3}
    drawn = jax.vmap(ctaugment.draw_probe)(jax.random.split(key, B))
    views = weak_strong.build(strong="ctaugment")

    def probe(key, images_BHWC):
        return views.plain(images_BHWC[::-1]), drawn

    learner = _Learner(views._replace(probe=probe))
    state = ema_teacher.init(learner, jax.random.key(0), batch)
    np.testing.assert_array_equal(state.extra["rates"], ctaugment.init())
    state = state.replace(params=jax.tree.map(jnp.zeros_like, state.params))
    after = ema_teacher.probe(learner, state, batch, key).extra["rates"]

    params, expected = state.extra["ema"], plain_rates()
    x_BHWC = views.plain(images[::-1])
    logits = np.asarray(learner.model.apply({"params": params}, x_BHWC, train=False))
    probs = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    for b in range(B):
        error = probs[b]
        error[b % 3] -= 1
        policy = plain_policy(drawn.operation_S[b], drawn.level_S2[b], expected)
        plain_update(expected, policy, 1 - 0.5 * abs(error).sum())
    assert_rates(after, expected)
    assert (after != ctaugment.init()).any()

    learner = _Learner(weak_strong.build(strong="none"))
    state = ema_teacher.init(learner, jax.random.key(0), batch)
    assert "rates" not in state.extra
    assert ema_teacher.probe(learner, state, batch, key) is state
