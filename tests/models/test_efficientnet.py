"""EfficientNet: timm's counts, and its forward pass written out in NumPy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit

from ssl_jax import models
from ssl_jax.models.efficientnet import Block
from ssl_jax.models.shared.batch_norm import BatchNorm
from ssl_jax.models.shared.convolution import Conv


def _outputs(side, **hparams):
    """(variables, what each module gave), as shapes."""
    model = models.build("efficientnet", num_classes=1000, dtype="bfloat16", **hparams)
    images = jnp.zeros((1, side, side, 3))

    def outputs():
        keep = dict(capture_intermediates=True, mutable=["intermediates"])
        variables = model.init(jax.random.key(0), images, train=False)
        return variables, model.apply(variables, images, train=False, **keep)[1]

    variables, seen = jax.eval_shape(outputs)
    return variables, seen["intermediates"]["encoder"]


def _count(variables):
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


# Counts are of timm 1.0.31's, by experiments/timm_parity.py.
def test_b0_has_timms_parameters_and_stages():
    variables, seen = _outputs(224)
    assert _count(variables) == 5_288_548
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    blocks = [seen[f"Block_{i}"]["__call__"][0] for i in range(16)]
    sizes = [(block.shape[1], block.shape[3]) for block in blocks]
    assert list(dict.fromkeys(sizes)) == [
        *((112, 16), (56, 24), (28, 40), (14, 80), (14, 112), (7, 192), (7, 320)),
    ]
    assert {block.dtype for block in blocks} == {jnp.dtype("bfloat16")}
    assert seen["__call__"][0].shape == (1, 1280)


def test_wider_and_deeper_it_is_b2():
    variables, seen = _outputs(32, widen=1.1, deepen=1.2)
    assert _count(variables) == 9_109_994
    assert "Block_22" in seen and "Block_23" not in seen


def _norm(x, params, stats):
    x = (x - stats["mean"]) / np.sqrt(stats["var"] + 1e-5)
    return x * params["scale"] + params["bias"]


def _silu(x):
    return x * expit(x)


def _conv(x, weights):
    return x @ weights["kernel"][0, 0] + weights.get("bias", 0)


def _block(x, params, stats, stride):
    """timm's InvertedResidual in evaluation, without its sum."""

    def norm(y, i):
        return _norm(y, params[f"BatchNorm_{i}"], stats[f"BatchNorm_{i}"])

    y = _silu(norm(_conv(x, params["Conv_0"]), 0))
    kernel = params["Depthwise_0"]["kernel"][..., 0]
    side = len(kernel)
    pad = [(0, 0), *[(side // 2, side // 2)] * 2, (0, 0)]
    windows = np.lib.stride_tricks.sliding_window_view(
        np.pad(y, pad), (side, side), (1, 2)
    )[:, ::stride, ::stride]
    y = _silu(norm(np.einsum("bhwcij,ijc->bhwc", windows, kernel), 1))
    its = params["Excitation_0"]
    weights = _conv(y.mean((1, 2), keepdims=True), its["Conv_0"])
    y = y * expit(_conv(_silu(weights), its["Conv_1"]))
    return norm(_conv(y, params["Conv_1"]), 2)


@pytest.mark.parametrize(("stride", "filters", "kernel"), [(1, 8, 3), (2, 6, 5)])
def test_a_block_equals_a_transcription_in_float64(stride, filters, kernel):
    block = Block(
        filters=filters,
        kernel=kernel,
        stride=stride,
        expand=6,
        drop=0.0,
        conv=functools.partial(Conv, use_bias=False),
        norm=functools.partial(BatchNorm, use_running_average=True, epsilon=1e-5),
    )
    draw = np.random.default_rng(0)
    x = draw.normal(size=(2, 7, 6, 8))
    init = functools.partial(block.init, jax.random.key(0), train=False)
    shapes = jax.eval_shape(init, jnp.float32(x))

    def weights(path, leaf):
        if path[-1].key == "kernel":
            fan_in = leaf.size / leaf.shape[-1 if leaf.shape[-1] > 1 else -2]
            return draw.normal(size=leaf.shape) * np.sqrt(2 / fan_in)
        return draw.uniform(0.5, 1.5, leaf.shape)

    variables = jax.tree.map_with_path(weights, shapes)
    expected = _block(x, variables["params"], variables["batch_stats"], stride)
    expected = expected + x if (stride, filters) == (1, 8) else expected
    apply = jax.jit(functools.partial(block.apply, train=False))
    y = apply(*jax.tree.map(jnp.float32, (variables, x)))
    assert expected.std() > 0.1
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)
