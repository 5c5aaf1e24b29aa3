"""Its operations against Pillow, and its draws against the two protocols."""

import functools
import os
from collections import Counter
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageDraw

from experiments.speed.augment_speed import pillow
from ssl_jax.augment import operations, randaugment
from ssl_jax.augment.randaugment import OPERATIONS
from ssl_jax.core import make_mesh
from ssl_jax.errors import UserError

ENHANCE = (0.05, 0.28, 0.5, 0.95, 1.0, 1.18, 1.72, 1.9)
# As `operations.randaugment_families`; eight, so that one compiled call does all.
MAGNITUDES = {
    "identity": (0,) * 8,
    "autocontrast": (0,) * 8,
    "equalize": (0,) * 8,
    "rotate": (-30, -27, -12.345, -3, 0, 6, 17.5, 30),
    "shear_x": (-0.3, -0.27, -0.1234, -0.03, 0, 0.06, 0.1871, 0.3),
    "shear_y": (-0.3, -0.27, -0.1234, -0.03, 0, 0.06, 0.1871, 0.3),
    "translate_x": (-9.6, -9, -4.32, -1, 0, 2, 3.7, 9),
    "translate_y": (-9.6, -9, -4.32, -1, 0, 2, 3.7, 9),
    "solarize": (0, 0.5, 26, 128, 200.3, 231, 255, 256),
    "posterize": (1, 2, 3, 4, 4.7, 6.2, 7.9, 8),
    "color": ENHANCE,
    "contrast": ENHANCE,
    "brightness": ENHANCE,
    "sharpness": ENHANCE,
}
GEOMETRIC = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")


def smooth_images(H, W, C):
    """uint8 [8, H, W, C] of slow waves; contrast differs from image to image."""
    rng = np.random.default_rng(H * W * C)
    y, x = np.indices((H, W, C))[:2]
    images = []
    for contrast in (1, 1, 0.9, 0.7, 0.5, 0.3, 0.1, 0):  # the last is of one level
        phase, speed = rng.uniform(0, 6, (2, C)), rng.uniform(0.05, 0.4, (2, C))
        wave = np.sin(y * speed[0] + phase[0]) + np.cos(x * speed[1] + phase[1])
        low, high = wave.min((0, 1)), np.maximum(wave.max((0, 1)), wave.min((0, 1)) + 1)
        images.append(128 + contrast * 255 * ((wave - low) / (high - low) - 0.5))
    return np.clip(images, 0, 255).astype(np.uint8)


def cifar10_images():
    tfds = pytest.importorskip("tensorflow_datasets")
    here = Path(__file__).resolve().parents[2]
    folder = os.environ.get("TFDS_DATA_DIR") or here.parent / "shared/data/tfds"
    if not Path(folder, "cifar10").is_dir():
        pytest.skip(f"CIFAR-10 is not prepared in {folder}; set TFDS_DATA_DIR.")
    source = tfds.data_source("cifar10", split="test", data_dir=str(folder))
    return np.stack([source[i]["image"] for i in range(8)])


@jax.jit
def apply_one_each(images_BHWC, operation_B, magnitude_B):
    def one(image, operation, magnitude):
        families = operations.randaugment_families(image.shape[-1], fill=127)
        return operations.slots(image, (operation[None], magnitude[None]), families)

    return jax.vmap(one)(images_BHWC, operation_B, magnitude_B)


IMAGES = {
    "8x8x1": lambda: smooth_images(8, 8, 1),
    "32x32x3": lambda: smooth_images(32, 32, 3),
    "20x28x3": lambda: smooth_images(20, 28, 3),
    "cifar10": cifar10_images,
}


@pytest.mark.parametrize("images", IMAGES)
def test_each_operation_is_pillows(images):
    """Every image at every magnitude: 99% of all pixels within one level."""
    images = IMAGES[images]()
    pairs = [(i, m) for i in range(len(images)) for m in range(8)]
    shown = jnp.asarray(images[[i for i, _ in pairs]])
    for name, magnitudes in MAGNITUDES.items():
        magnitude_B = np.array([magnitudes[m] for _, m in pairs], np.float32)
        operation_B = np.full(len(pairs), OPERATIONS.index(name))
        ours = np.asarray(apply_one_each(shown, operation_B, magnitude_B))
        theirs = np.stack(
            [pillow(name, images[i], magnitudes[m], fill=127) for i, m in pairs]
        )
        difference = abs(ours.astype(int) - theirs)
        if name in GEOMETRIC:
            difference = difference[:, 1:-1, 1:-1]
        close = (difference <= 1).mean((1, 2, 3))
        worst = pairs[close.argmin()]
        assert close.min() >= 0.99, f"{name} at {magnitudes[worst[1]]}: {close.min()}"
        # And most of them exactly: a bias of one level everywhere is an error, too.
        assert (difference == 0).mean() >= 0.98, name


def test_every_operation_but_identity_changes_the_image():
    images = jnp.asarray(smooth_images(32, 32, 3)[4:5].repeat(14, 0))
    magnitude_B = np.array([MAGNITUDES[name][1] for name in OPERATIONS], np.float32)
    out = apply_one_each(images, np.arange(14), magnitude_B)
    changed = np.asarray((out != images).mean((1, 2, 3)))
    assert changed[0] == 0
    assert (changed[1:] > 0.01).all(), dict(zip(OPERATIONS, changed, strict=True))


def test_apply_by_name():
    image = smooth_images(8, 8, 1)[0]
    out = operations.apply("solarize", jnp.asarray(image), 100)
    np.testing.assert_array_equal(out, pillow("solarize", image, 100))
    with pytest.raises(UserError, match="'posterise'.*posterize"):
        operations.apply("posterise", image, 4)


def test_slots_come_one_after_the_other():
    image = smooth_images(32, 32, 3)[2]
    steps = (("contrast", 1.72), ("shear_x", 0.12), ("equalize", 0), ("sharpness", 0.1))
    operation_S = jnp.array([OPERATIONS.index(name) for name, _ in steps])
    magnitude_S = jnp.array([m for _, m in steps], jnp.float32)
    families = operations.randaugment_families(3, fill=127)
    ours = operations.slots(jnp.asarray(image), (operation_S, magnitude_S), families)
    theirs = image
    for name, magnitude in steps:
        theirs = pillow(name, theirs, magnitude, fill=127)
    assert (abs(np.asarray(ours).astype(int) - theirs) <= 2).mean() > 0.99


def keys(n, seed=0):
    return jax.random.split(jax.random.key(seed), n)


def assert_uniform(values, expected_values):
    """Counts within 4.5 standard deviations of equal ones."""
    count = Counter(np.asarray(values).ravel().tolist())
    assert set(count) == set(expected_values)
    expected = sum(count.values()) / len(expected_values)
    assert all(abs(c - expected) < 4.5 * np.sqrt(expected) for c in count.values())


def test_google_draws():
    operation, magnitude = map(
        np.asarray, jax.vmap(randaugment.draw_google)(keys(9000))
    )
    assert operation.shape == (9000, 2)
    applied = operation != 0
    assert abs(applied.mean() - 0.5 * 13 / 14) < 0.015
    assert_uniform(operation[applied], range(1, 14))
    # With replacement: both slots the same operation in 1 of 13 of the applied pairs.
    both = applied.all(1)
    assert abs((operation[both, 0] == operation[both, 1]).mean() - 1 / 13) < 0.025

    level = np.arange(1, 10)
    signed = np.concatenate([-level, level])
    enhance = 0.1 + 0.18 * level
    expected = {
        "rotate": 3 * signed,
        "shear_x": 0.03 * signed,
        "shear_y": 0.03 * signed,
        "translate_x": signed,
        "translate_y": signed,
        "solarize": [256 - int(25.6 * L) for L in level],
        "posterize": [4 - int(0.4 * L) for L in level],
        "color": enhance,
        "contrast": enhance,
        "brightness": enhance,
        "sharpness": enhance,
    }
    for name, values in expected.items():
        drawn = magnitude[operation == OPERATIONS.index(name)]
        share = Counter(np.round(np.array(values, float), 4).tolist())
        count = Counter(np.round(drawn.astype(float), 4).tolist())
        assert set(count) == set(share), name
        for value, times in share.items():
            mean = len(drawn) * times / len(values)
            assert abs(count[value] - mean) < 4.5 * np.sqrt(mean), (name, value)


def test_torchssl_draws():
    draw = jax.jit(jax.vmap(lambda k: randaugment.draw_torchssl(k, (20, 40))))
    operation, magnitude = map(np.asarray, draw(keys(6000)))
    assert operation.shape == (6000, 3)
    assert_uniform(operation, range(14))
    expected = {
        "rotate": (-30, 30),
        "shear_x": (-0.3, 0.3),
        "shear_y": (-0.3, 0.3),
        "translate_x": (-12, 12),
        "translate_y": (-6, 6),
        "solarize": (0, 256),
        "posterize": (4, 8),
        "color": (0.05, 0.95),
        "contrast": (0.05, 0.95),
        "brightness": (0.05, 0.95),
        "sharpness": (0.05, 0.95),
    }
    for name, (low, high) in expected.items():
        unit = (magnitude[operation == OPERATIONS.index(name)] - low) / (high - low)
        assert unit.min() > -1e-6 and unit.max() < 1 + 1e-6, name
        deciles = np.histogram(unit, 10, (0, 1))[0]
        assert abs(deciles - len(unit) / 10).max() < 4.5 * np.sqrt(len(unit) / 10), name


@pytest.mark.parametrize("draw", ["draw_google", "draw_torchssl"])
def test_strength_is_the_part_of_each_range_from_no_change(draw):
    sized = dict(size=(20, 40)) if draw == "draw_torchssl" else {}
    draw = functools.partial(getattr(randaugment, draw), **sized)

    @jax.jit
    @jax.vmap
    def drawn(key):
        return draw(key), draw(key, strength=0.25)

    (operation, whole), (few, part) = jax.tree.map(np.asarray, drawn(keys(4000)))
    neutral = dict(solarize=256, posterize=8) | dict.fromkeys(operations.ENHANCERS, 1)
    neutral = np.array([neutral.get(name, 0) for name in OPERATIONS])[operation]
    weaker = np.where(operation != 0, (whole - neutral) / 4, part - neutral)
    np.testing.assert_allclose(part - neutral, weaker, atol=1e-4)
    without = [OPERATIONS.index(name) for name in ("autocontrast", "equalize")]
    asked = np.isin(operation, without)  # these have no range
    np.testing.assert_array_equal(few[~asked], operation[~asked])
    assert set(np.unique(few[asked])) == {0, *without}
    assert abs((few[asked] != 0).mean() - 0.25) < 0.05


@functools.cache
def batched(protocol):
    return jax.jit(jax.vmap(protocol))


def run(protocol, keys_B, images_BHWC):
    return np.asarray(batched(protocol)(keys_B, jnp.asarray(images_BHWC)))


@pytest.mark.parametrize(
    ("side", "strength", "cutout"), [(16, 1, 8), (32, 1, 16), (96, 0.5, 8)]
)
def test_google_leaves_the_image_but_for_cutout_when_nothing_is_applied(
    side, strength, cutout
):
    keys_B = keys(200)
    images = np.full((200, side, side, 1), 255, np.uint8)
    google = functools.partial(randaugment.randaugment_google, strength=strength)
    views = run(google, keys_B, images)
    key_draw_B = jax.vmap(jax.random.split)(keys_B)[:, 0]
    operation, _ = jax.jit(jax.vmap(randaugment.draw_google))(key_draw_B)
    none = np.asarray((operation == 0).all(1))
    assert 0.15 < none.mean() < 0.43  # (1/2 + 1/28)^2 = 0.29
    sizes = set()
    for view in views[none]:
        rows, columns = np.nonzero((view != images[0])[..., 0])
        sizes.add((np.ptp(rows) + 1, np.ptp(columns) + 1))
        assert (view[rows, columns] == 127).all()
    assert max(sizes) == (cutout, cutout) and max(w for _, w in sizes) == cutout


def test_cutout_of_torchssl_is_pillows_rectangle():
    """`CutoutAbs` of TorchSSL, from the same uniform draws."""
    H, W = 16, 24
    keys_B = keys(200)
    images = np.full((200, H, W, 3), 255, np.uint8)
    views = run(randaugment.randaugment_torchssl, keys_B, images)
    color = (125, 123, 114)

    @jax.jit
    @jax.vmap
    def draw(key):
        _, key_cutout = jax.random.split(key)
        return jax.random.uniform(key_cutout, (3,)) * np.array([W / 2, H, W])

    side_B, y_B, x_B = np.asarray(draw(keys_B)).T
    for side, y, x, view in zip(side_B, y_B, x_B, views, strict=True):
        left, top = int(max(0, x - side / 2)), int(max(0, y - side / 2))
        box = (left, top, min(W, left + side), min(H, top + side))
        image = Image.new("RGB", (W, H), (255, 255, 255))
        ImageDraw.Draw(image).rectangle(box, color)
        expected = (np.asarray(image) == color).all(-1)
        np.testing.assert_array_equal((view == color).all(-1), expected)
    assert side_B.min() < 1 and 11 < side_B.max() < 12


@pytest.mark.parametrize(
    "protocol", [randaugment.randaugment_google, randaugment.randaugment_torchssl]
)
def test_an_image_alone_is_the_image_in_a_batch(protocol):
    keys_B, images = keys(200), smooth_images(16, 16, 1).repeat(25, axis=0)
    batch = run(protocol, keys_B, images)
    assert batch.dtype == np.uint8 and batch.shape == images.shape
    np.testing.assert_array_equal(batch, run(protocol, keys_B, images))
    alone = jax.jit(protocol)
    for key, image, view in list(zip(keys_B, images, batch, strict=True))[::9]:
        np.testing.assert_array_equal(alone(key, jnp.asarray(image)), view)
    assert len({view.tobytes() for view in batch[:25]}) > 20  # of one image


@pytest.mark.parametrize(
    "protocol", [randaugment.randaugment_google, randaugment.randaugment_torchssl]
)
def test_strength_may_be_given_as_the_program_runs(protocol):
    """At 1 the protocol, at 0 the images."""
    keys_B, images = keys(200), smooth_images(16, 16, 1).repeat(25, axis=0)
    at = jax.jit(jax.vmap(lambda *a: protocol(*a[:2], strength=a[2]), (0, 0, None)))
    np.testing.assert_array_equal(
        at(keys_B, images, 1.0), run(protocol, keys_B, images)
    )
    np.testing.assert_array_equal(at(keys_B, images, 0.0), images)


def test_a_single_cpu_computes_only_the_images_that_ask():
    """To the same pixels as over 4 devices, where all images are computed."""
    # 70 rows are 3 x 32 less 26; the last one is an image that equalize changes.
    images = jnp.asarray(smooth_images(20, 28, 1).repeat(9, axis=0)[69::-1])
    magnitude_B = np.linspace(0.3, 6, 70, dtype=np.float32)
    index = OPERATIONS.index
    for operation_B in (
        np.arange(70) % 14,
        np.full(70, index("identity")),
        np.full(70, index("equalize")),
        np.where(np.arange(70) < 69, index("rotate"), index("brightness")),
    ):
        drawn = (images, operation_B, magnitude_B)
        few = apply_one_each(*drawn)
        with jax.set_mesh(make_mesh()):
            every = apply_one_each(*drawn)
        np.testing.assert_array_equal(few, every)
        assert (few != images).any() == (operation_B != 0).any()
    assert "while" in str(apply_one_each.trace(*drawn).jaxpr)
    with jax.set_mesh(make_mesh()):
        assert "while" not in str(apply_one_each.trace(*drawn).jaxpr)
