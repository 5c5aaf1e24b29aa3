"""Vision Transformer: timm's counts, and its forward pass written out in NumPy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from scipy.special import erf, softmax

from ssl_jax import models
from ssl_jax.errors import UserError
from ssl_jax.models.vit import resampled

TINY = dict(width=8, depth=2, heads=2, patch=4)


def _shapes(image, num_classes, **hparams):
    model = models.build("vit", num_classes=num_classes, dtype="float32", **hparams)
    images = jnp.zeros((1, *image))
    return jax.eval_shape(lambda: model.init(jax.random.key(0), images, train=False))


@pytest.mark.parametrize(
    ("hparams", "count"),  # of timm 1.0.31's models, by experiments/timm_parity.py
    [
        ({}, 5_717_416),  # vit_tiny_patch16_224
        (dict(size="small"), 22_050_664),  # vit_small_patch16_224
        (dict(size="base"), 86_567_656),  # vit_base_patch16_224
        (  # vit_small_patch14_reg4_dinov2 at 224 px
            dict(size="small", patch=14, registers=4)
            | dict(prefix_position=False, layer_scale=1e-5),
            22_014_952,
        ),
    ],
)
def test_parameters_are_as_many_as_timms(hparams, count):
    params = _shapes((224, 224, 3), 1000, **hparams)["params"]
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == count


def _norm(x, weights):
    x = x - x.mean(-1, keepdims=True)
    x = x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6)
    return x * weights["scale"] + weights["bias"]


def _dense(x, weights):
    return x @ weights["kernel"] + weights["bias"]


def _attention(x, weights, heads):
    """Head by head, image by image."""
    B, T, D = x.shape
    q, k, v = np.split(_dense(x, weights["qkv"]), 3, axis=-1)
    y = np.zeros_like(x)
    for b in range(B):
        for part in np.split(np.arange(D), heads):
            scores = q[b][:, part] @ k[b][:, part].T / np.sqrt(D / heads)
            y[b][:, part] = softmax(scores, axis=-1) @ v[b][:, part]
    return _dense(y, weights["out"])


def _mlp(x, weights):
    x = _dense(x, weights["Dense_0"])
    return _dense(x * (1 + erf(x / np.sqrt(2))) / 2, weights["Dense_1"])


def _vit(x, encoder, *, patch, heads, pool):
    """timm's VisionTransformer, forward_features and pooling in evaluation."""
    B, H, W, C = x.shape
    tokens = [
        np.tensordot(
            x[:, i : i + patch, j : j + patch], encoder["patches"]["kernel"], 3
        )
        + encoder["patches"]["bias"]
        + encoder["position"][i // patch, j // patch]
        for i in range(0, H, patch)
        for j in range(0, W, patch)
    ]
    prefix = [*encoder.get("class_token", ()), *encoder.get("registers", ())]
    own = encoder.get("prefix_position", np.zeros((len(prefix), 1)))
    tokens = [np.tile(t + p, (B, 1)) for t, p in zip(prefix, own, strict=True)] + tokens
    x = np.stack(tokens, axis=1)
    for i in range(sum(name.startswith("Block") for name in encoder)):
        block = encoder[f"Block_{i}"]
        y = _attention(_norm(x, block["attention_norm"]), block["attention"], heads)
        x = x + y * block.get("attention_scale", 1)
        x = x + _mlp(_norm(x, block["mlp_norm"]), block["mlp"]) * block.get(
            "mlp_scale", 1
        )
    if pool == "token":
        return _norm(x, encoder["norm"])[:, 0]
    return _norm(x[:, len(prefix) :].mean(1), encoder["norm"])


@pytest.mark.parametrize(
    "hparams",
    [
        {},
        dict(registers=2),
        dict(registers=2, prefix_position=False, layer_scale=0.1),
        dict(pool="mean", class_token=False),
    ],
)
def test_forward_equals_a_transcription_in_float64(hparams):
    draw = np.random.default_rng(0)
    shapes = _shapes((8, 12, 3), 5, **TINY, **hparams)

    def weights(leaf):
        return draw.normal(size=leaf.shape) * leaf.shape[0] ** -0.5

    variables = jax.tree.map(weights, shapes)
    images = draw.normal(size=(2, 8, 12, 3))
    how = dict(patch=4, heads=2, pool=hparams.get("pool", "token"))
    expected = _vit(images, variables["params"]["encoder"], **how)

    model = models.build("vit", num_classes=5, dtype="float32", **TINY, **hparams)
    apply = jax.jit(functools.partial(model.apply, train=False, method="features"))
    features = apply(*jax.tree.map(jnp.float32, (variables, images)))
    assert expected.std() > 0.1
    np.testing.assert_allclose(features, expected, rtol=1e-4, atol=1e-4)


def test_position_embeddings_follow_the_images_size():
    """As Pillow resizes, which PyTorch's bicubic with antialias equals; so a network
    sees crops of several sizes."""
    draw = np.random.default_rng(0)
    position_hwD = draw.normal(size=(6, 6, 2)).astype(np.float32)
    for rows, columns in ((3, 4), (9, 7), (6, 6)):
        planes = [Image.fromarray(plane) for plane in position_hwD.transpose(2, 0, 1)]
        expected = [
            np.asarray(plane.resize((columns, rows), Image.Resampling.BICUBIC))
            for plane in planes
        ]
        ours = resampled(jnp.asarray(position_hwD), (rows, columns))
        np.testing.assert_allclose(ours, np.stack(expected, -1), atol=1e-5)

    model = models.build("vit", num_classes=5, dtype="float32", **TINY)
    shapes = _shapes((16, 16, 3), 5, **TINY)
    apply = functools.partial(model.apply, train=False)
    crops = jax.ShapeDtypeStruct((2, 8, 8, 3), jnp.float32)
    assert jax.eval_shape(apply, shapes, crops).shape == (2, 5)


def test_computes_in_bfloat16_on_float32_parameters():
    model = models.build("vit", num_classes=5, dtype="bfloat16", **TINY, registers=1)
    images = jax.random.normal(jax.random.key(0), (2, 8, 8, 3))
    init = functools.partial(model.init, jax.random.key(0), train=False)
    variables = jax.eval_shape(init, images)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    keep = dict(capture_intermediates=True, mutable=["intermediates"], train=False)
    apply = functools.partial(model.apply, **keep)
    logits, seen = jax.eval_shape(apply, variables, images)
    assert logits.dtype == jnp.float32
    inside = jax.tree.leaves(seen["intermediates"]["encoder"])
    assert {leaf.dtype for leaf in inside} == {jnp.dtype("bfloat16")}


def test_mistakes_name_the_field_and_the_remedy():
    def refused(match, image=(8, 8, 3), **hparams):
        with pytest.raises(UserError, match=match):
            _shapes(image, 2, **TINY | hparams)

    refused(r"size='huge' .*'base', 'small', 'tiny'", size="huge")
    refused(r"pool='max' .*'mean', 'token'", pool="max")
    refused(r"heads=3 does not divide model.width=8", heads=3)
    refused(r"pool='token' .*use model.pool=mean", class_token=False)
    refused(r"8x10 images .*model.patch=4 .*use a model.patch", image=(8, 10, 3))
