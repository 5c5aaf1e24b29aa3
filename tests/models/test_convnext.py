"""ConvNeXt: timm's counts, and its forward pass written out in NumPy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import erf

from ssl_jax import models
from ssl_jax.errors import UserError
from ssl_jax.models.shared.patches import Patches

TINY = dict(depths=(1, 2), widths=(4, 6), patch=2, kernel=5, layer_scale=0.5)


def _shapes(image, num_classes, **hparams):
    model = models.build(
        "convnext", num_classes=num_classes, dtype="float32", **hparams
    )
    images = jnp.zeros((1, *image))
    return jax.eval_shape(lambda: model.init(jax.random.key(0), images, train=False))


@pytest.mark.parametrize(
    ("size", "count"),  # of timm 1.0.31's, by experiments/timm_parity.py
    [("atto", 3_695_520), ("tiny", 28_589_128)],
)
def test_parameters_are_as_many_as_timms(size, count):
    params = _shapes((32, 32, 3), 1000, size=size)["params"]
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == count


def _norm(x, weights):
    x = x - x.mean(-1, keepdims=True)
    x = x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6)
    return x * weights["scale"] + weights["bias"]


def _dense(x, weights):
    return x @ weights["kernel"] + weights["bias"]


def _patches(x, weights):
    side = len(weights["kernel"])
    _, H, W, _ = x.shape
    rows = [
        [
            np.tensordot(x[:, i : i + side, j : j + side], weights["kernel"], 3)
            for j in range(0, W - side + 1, side)
        ]
        for i in range(0, H - side + 1, side)
    ]
    return np.array(rows).transpose(2, 0, 1, 3) + weights["bias"]


def _block(x, weights):
    kernel = weights["Depthwise_0"]["kernel"][..., 0]
    side = len(kernel)
    pad = [(0, 0), *[(side // 2, side // 2)] * 2, (0, 0)]
    windows = np.lib.stride_tricks.sliding_window_view(
        np.pad(x, pad), (side, side), (1, 2)
    )
    y = np.einsum("bhwcij,ijc->bhwc", windows, kernel) + weights["Depthwise_0"]["bias"]
    y = _dense(_norm(y, weights["LayerNorm_0"]), weights["Dense_0"])
    y = _dense(y * (1 + erf(y / np.sqrt(2))) / 2, weights["Dense_1"])
    return x + y * weights["scale"]


def test_forward_equals_a_transcription_in_float64():
    draw = np.random.default_rng(0)
    shapes = _shapes((10, 11, 3), 5, **TINY)

    def weights(leaf):
        return draw.normal(size=leaf.shape) * leaf.shape[0] ** -0.5

    variables = jax.tree.map(weights, shapes)
    images, its = draw.normal(size=(2, 10, 11, 3)), variables["params"]["encoder"]
    x = _norm(_patches(images, its["stem"]), its["stem_norm"])
    x = _block(x, its["Block_0"])
    x = _patches(_norm(x, its["halved_norm_1"]), its["halved_1"])
    x = _block(_block(x, its["Block_1"]), its["Block_2"])
    expected = _norm(x.mean((1, 2)), its["norm"])

    model = models.build("convnext", num_classes=5, dtype="float32", **TINY)
    apply = jax.jit(functools.partial(model.apply, train=False, method="features"))
    features = apply(*jax.tree.map(jnp.float32, (variables, images)))
    assert expected.std() > 0.1
    np.testing.assert_allclose(features, expected, rtol=1e-4, atol=1e-4)


def test_patches_equal_a_convolution_and_its_gradients():
    draw = np.random.default_rng(0)
    layer = Patches(3, 2, jax.nn.initializers.zeros)
    x = jnp.asarray(draw.normal(size=(2, 5, 6, 4)), jnp.float32)
    shapes = jax.eval_shape(lambda: layer.init(jax.random.key(0), x))["params"]
    params = jax.tree.map(
        lambda leaf: jnp.float32(draw.normal(size=leaf.shape)), shapes
    )

    def by_convolution(params, x):
        y = jax.lax.conv_general_dilated(
            x, params["kernel"], (2, 2), "VALID",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )  # fmt: skip
        return y + params["bias"][None, None, None]

    def gradients(of):
        return jax.grad(lambda *given: (of(*given) ** 2).sum(), (0, 1))(params, x)

    ours = gradients(lambda params, x: layer.apply({"params": params}, x))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4),
        ours,
        gradients(by_convolution),
    )


def test_computes_in_bfloat16_on_float32_parameters():
    model = models.build("convnext", num_classes=5, dtype="bfloat16", **TINY)
    images = jnp.zeros((2, 8, 8, 3))
    init = functools.partial(model.init, jax.random.key(0), train=False)
    variables = jax.eval_shape(init, images)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    keep = dict(capture_intermediates=True, mutable=["intermediates"], train=False)
    logits, seen = jax.eval_shape(
        functools.partial(model.apply, **keep), variables, images
    )
    assert logits.dtype == jnp.float32
    inside = jax.tree.leaves(seen["intermediates"]["encoder"])
    assert {leaf.dtype for leaf in inside} == {jnp.dtype("bfloat16")}


def test_mistakes_name_the_field_and_the_remedy():
    def refused(match, image=(8, 8, 3), **hparams):
        with pytest.raises(UserError, match=match):
            _shapes(image, 2, **TINY | hparams)

    refused(r"size='huge' .*'atto', 'femto'", size="huge")
    refused(r"of 1 and 2 stages", depths=(1,))
    refused(r"kernel=4 has no middle; use an odd", kernel=4)
    refused(r"3x8 images .*one pixel of 4 a side; .*smaller model", image=(3, 8, 3))
