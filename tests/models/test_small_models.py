"""cnn13, simple_cnn and MobileNet: counts by hand, forward passes against NumPy."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssl_jax import models
from ssl_jax.errors import UserError
from ssl_jax.models.shared.depthwise import Depthwise, depthwise


def _shapes(name, image, dtype="float32", **hparams):
    model = models.build(name, num_classes=10, dtype=dtype, **hparams)
    key, images = jax.random.key(0), jnp.zeros((2, *image))
    return jax.eval_shape(lambda: model.init(key, images, train=False))


@pytest.mark.parametrize(
    ("name", "image", "count", "moments"),
    [
        # 3x3: 9 * (3 * 128 + 2 * 128 * 128) = 298,368; 9 * (128 * 256 + 2 * 256 * 256)
        # = 1,474,560; 9 * 256 * 512 = 1,179,648. 1x1: 512 * 256 + 256 * 128 = 163,840.
        # BatchNorm: 3 * 128 + 3 * 256 + 512 + 256 + 128 = 2,048 channels, 2 each.
        # Head: 128 * 10 + 10 = 1,290.
        ("cnn13", (32, 32, 3), 3_121_802, 2 * 2_048),
        ("simple_cnn", (28, 28, 1), 320 + 26 * 26 * 32 * 10 + 10, 0),
        # Keras's summary of MobileNet(input_shape=(32, 32, 3), classes=10)
        ("mobilenet", (32, 32, 3), 3_217_226, 21_888),
    ],
)
def test_parameter_counts(name, image, count, moments):
    shapes = _shapes(name, image)
    sizes = jax.tree.map(lambda leaf: leaf.size, shapes)
    assert sum(jax.tree.leaves(sizes["params"])) == count
    stats = jax.tree.leaves_with_path(sizes.get("batch_stats", {}))
    assert sum(n for path, n in stats if path[-1].key != "count") == moments


@pytest.mark.parametrize(("name", "side"), [("cnn13", 12), ("mobilenet", 32)])
def test_too_small_images_name_the_smallest_side(name, side):
    message = rf"{side + 9}x{side - 1} images .*{name}.*smallest side is {side};"
    with pytest.raises(UserError, match=message):
        _shapes(name, (side + 9, side - 1, 1))


@pytest.mark.parametrize("stride", [1, 2])
def test_depthwise_equals_a_grouped_convolution_and_its_gradient(stride):
    pad = (1, 1) if stride == 1 else (0, 1)

    def grouped(x, kernel):
        return jax.lax.conv_general_dilated(
            x,
            kernel[:, :, None],
            window_strides=(stride, stride),
            padding=(pad, pad),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=kernel.shape[-1],
        )

    @partial(jax.jit, static_argnums=0)
    def value_and_gradients(conv, x, kernel, cotangent):
        y, pull = jax.vjp(conv, x, kernel)
        return y, *pull(cotangent)

    draw = np.random.default_rng(0)
    side = {1: (7, 8), 2: (3, 4)}[stride]  # of the output; 7 // 2 rows, 8 / 2 columns
    shapes = [(2, 7, 8, 5), (3, 3, 5), (2, *side, 5)]
    given = [jnp.float32(draw.normal(size=shape)) for shape in shapes]
    shifted = value_and_gradients(partial(depthwise, stride=stride, pad=pad), *given)
    for value, expected in zip(
        shifted, value_and_gradients(grouped, *given), strict=True
    ):
        np.testing.assert_allclose(value, expected, rtol=0, atol=1e-5)


def test_depthwise_in_bfloat16_rounds_once():
    draw = np.random.default_rng(0)
    x = jnp.asarray(draw.normal(size=(2, 8, 8, 16)), jnp.bfloat16)
    kernel = jnp.float32(draw.normal(size=(3, 3, 16)))
    variables = {"params": {"kernel": kernel[..., None]}}
    layer = Depthwise(3, 1, (1, 1), jax.nn.initializers.zeros)
    conv = jax.jit(lambda x: layer.apply(variables, x))
    y, expected = conv(x), conv(x.astype(jnp.float32))
    assert y.dtype == jnp.bfloat16
    np.testing.assert_array_equal(y, expected.astype(jnp.bfloat16))


def _windows(x, size, pad):
    """[B, H, W, C] -> [B, H', W', C, size, size], zeros before and after as `pad`."""
    x = np.pad(x, [(0, 0), pad, pad, (0, 0)])
    return np.lib.stride_tricks.sliding_window_view(x, (size, size), (1, 2))


def _conv(x, kernel, stride=1, pad=(0, 0)):
    windows = _windows(x, len(kernel), pad)[:, ::stride, ::stride]
    return np.tensordot(windows, kernel, [(4, 5, 3), (0, 1, 2)])


def _norm(x, params, stats, i, epsilon):
    stats, params = stats[f"BatchNorm_{i}"], params[f"BatchNorm_{i}"]
    x = (x - stats["mean"]) / np.sqrt(stats["var"] + epsilon)
    return x * params["scale"] + params["bias"]


def _cnn13(x, params, stats):
    """Table 5 of Temporal Ensembling in evaluation, up to the pooled features."""
    for i in range(9):
        kernel = params[f"Conv_{i}"]["kernel"]
        x = _conv(x, kernel, pad=(1, 1) if i < 6 else (0, 0))
        x = _norm(x, params, stats, i, 1e-5)
        x = np.where(x > 0, x, 0.1 * x)
        if i in (2, 5):
            B, H, W, C = x.shape
            x = x.reshape(B, H // 2, 2, W // 2, 2, C).max((2, 4))
    return x.mean((1, 2))


def _mobilenet(x, params, stats):
    """Keras's MobileNet in evaluation on an even size, up to the pooled features."""
    x = _conv(x, params["Conv_0"]["kernel"], 2, (0, 1))
    x = np.clip(_norm(x, params, stats, 0, 1e-3), 0, 6)
    for i, stride in enumerate([1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1]):
        windows = _windows(x, 3, (1, 1) if stride == 1 else (0, 1))
        kernel = params[f"Depthwise_{i}"]["kernel"][..., 0]
        x = np.einsum("bhwcij,ijc->bhwc", windows[:, ::stride, ::stride], kernel)
        x = np.clip(_norm(x, params, stats, 2 * i + 1, 1e-3), 0, 6)
        x = _conv(x, params[f"Conv_{i + 1}"]["kernel"])
        x = np.clip(_norm(x, params, stats, 2 * i + 2, 1e-3), 0, 6)
    return x.mean((1, 2))


def _simple_cnn(x, params, stats):
    del stats
    y = _conv(x, params["Conv_0"]["kernel"]) + params["Conv_0"]["bias"]
    return np.maximum(y, 0).reshape(len(x), -1)


@pytest.mark.parametrize(
    ("name", "reference", "side", "hparams"),
    [  # cnn13 and mobilenet on the smallest side that they take
        ("cnn13", _cnn13, 12, {"width": 4}),
        ("mobilenet", _mobilenet, 32, {"widen": 0.25}),
        ("simple_cnn", _simple_cnn, 8, {"filters": 4}),
    ],
)
def test_forward_equals_a_transcription_in_float64(name, reference, side, hparams):
    shapes = _shapes(name, (side, side, 3), **hparams)
    draw = np.random.default_rng(0)

    def weights(path, leaf):
        if path[-1].key == "kernel":
            fan_in = leaf.size / leaf.shape[-1 if leaf.shape[-1] > 1 else -2]
            return draw.normal(size=leaf.shape) * np.sqrt(2 / fan_in)
        return draw.uniform(0.5, 1.5, leaf.shape)

    variables = jax.tree.map_with_path(weights, shapes)
    images = draw.normal(size=(2, side, side, 3))
    params, stats = (
        variables.get(c, {}).get("encoder", {}) for c in ("params", "batch_stats")
    )
    expected = reference(images, params, stats)

    model = models.build(name, num_classes=10, dtype="float32", **hparams)
    apply = jax.jit(lambda v, x: model.apply(v, x, train=False, method="features"))
    features = apply(*jax.tree.map(jnp.float32, (variables, images)))
    assert expected.std() > 0.01
    np.testing.assert_allclose(features, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "fans"),  # of each kernel: Keras's glorot_uniform
    [
        ("mobilenet", {"Conv_0": 9 * (3 + 32), "Depthwise_6": 9 * (512 + 1)}),
        ("simple_cnn", {"Conv_0": 9 * (3 + 32)}),
    ],
)
def test_kernels_are_drawn_as_in_keras(name, fans):
    model = models.build(name, num_classes=10, dtype="float32")

    @jax.jit  # draws only what it returns
    def kernels(key):
        params = model.init(key, jnp.zeros((1, 32, 32, 3)), train=False)["params"]
        return {module: params["encoder"][module]["kernel"] for module in fans}

    drawn = kernels(jax.random.key(0))
    for module, fan in fans.items():
        kernel, limit = drawn[module], np.sqrt(6 / fan)
        assert 0.98 * limit < jnp.abs(kernel).max() <= limit
        assert kernel.std() == pytest.approx(limit / np.sqrt(3), rel=0.05)


@pytest.mark.parametrize(
    ("name", "hparams"),
    [("cnn13", {"width": 4}), ("simple_cnn", {}), ("mobilenet", {"widen": 0.25})],
)
def test_encoder_computes_in_bfloat16_on_float32_parameters(name, hparams):
    model = models.build(name, num_classes=10, dtype="bfloat16", **hparams)
    images = jnp.zeros((2, 32, 32, 3))
    variables = _shapes(name, (32, 32, 3), "bfloat16", **hparams)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}

    def outputs(variables):
        keep = dict(capture_intermediates=True, mutable=["intermediates"])
        return model.apply(variables, images, train=False, **keep)

    logits, seen = jax.eval_shape(outputs, variables)
    assert logits.dtype == jnp.float32
    inside = jax.tree.leaves(seen["intermediates"]["encoder"])
    assert {leaf.dtype for leaf in inside} == {jnp.dtype("bfloat16")}
