"""Parameter counts of the papers' networks, and what precision they compute in."""

import jax
import jax.numpy as jnp
import pytest

from ssl_jax import models
from ssl_jax.core import UserError


def _shapes(name, image, num_classes, dtype="float32", **hparams):
    model = models.build(name, num_classes=num_classes, dtype=dtype, **hparams)
    key, images = jax.random.key(0), jnp.zeros((2, *image))
    return jax.eval_shape(lambda: model.init(key, images, train=False))


@pytest.mark.parametrize(
    ("image", "classes", "hparams", "count"),
    [
        ((32, 32, 3), 10, {}, 1_467_610),  # WRN-28-2 (FixMatch, section 4)
        # 5.93 million, says google-research/fixmatch#34
        ((96, 96, 3), 10, {"scales": 4}, 5_929_434),
        ((32, 32, 3), 100, {"widen": 8}, 23_401_012),  # WRN-28-8, CIFAR-100
    ],
)
def test_wide_resnet_has_the_papers_parameters(image, classes, hparams, count):
    params = _shapes("wide_resnet", image, classes, **hparams)["params"]
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == count


def test_convnet_parameters():
    params = _shapes("convnet", (8, 8, 1), 10, filters=(16, 32))["params"]
    convolutions = 9 * (1 * 16 + 16 * 16 + 16 * 32 + 32 * 32)
    batch_norms = 2 * (16 + 16 + 32 + 32)
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == (
        convolutions + batch_norms + 32 * 10 + 10
    )


@pytest.mark.parametrize("name", ["wide_resnet", "convnet"])
def test_bfloat16_computes_so_and_keeps_the_rest_float32(name):
    small = {"wide_resnet": {"widen": 1, "blocks": 1}, "convnet": {"filters": (8,)}}
    model = models.build(name, num_classes=10, dtype="bfloat16", **small[name])
    images = jax.random.normal(jax.random.key(1), (4, 16, 16, 3))
    init = jax.jit(model.init, static_argnames="train")
    variables = init(jax.random.key(0), images, train=False)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}

    def apply(model):
        return jax.jit(
            lambda v: model.apply(v, images, train=True, mutable=["batch_stats"])
        )(variables)

    logits_BK, moved = apply(model)
    assert logits_BK.dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves(moved)} == {jnp.dtype("float32")}
    jaxpr = str(jax.make_jaxpr(lambda: apply(model))())
    assert "bf16" in jaxpr
    in_float32 = models.build(name, num_classes=10, dtype="float32", **small[name])
    assert jnp.abs(logits_BK - apply(in_float32)[0]).max() < 0.1


def test_first_scale_alone_activates_before_the_residual():
    """The shortcut of the very first block starts after BatchNorm and LeakyReLU."""
    model = models.build(
        "wide_resnet", num_classes=2, dtype="float32", widen=1, blocks=1, scales=1
    )
    images = jnp.ones((1, 4, 4, 3))
    variables = model.init(jax.random.key(0), images, train=False)
    params = variables["params"]["encoder"]
    # Without the two convolutions the block is its shortcut.
    block = {
        name: jax.tree.map(jnp.zeros_like, part) if name.startswith("Conv") else part
        for name, part in params["Block_0"].items()
    }
    variables["params"]["encoder"] = {**params, "Block_0": block}
    stem = jax.lax.conv_general_dilated(
        images, params["Conv_0"]["kernel"], (1, 1), "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )  # fmt: skip

    def norm_and_activate(x):  # at initialisation: mean 0, variance 1
        return jax.nn.leaky_relu(x / jnp.sqrt(1 + 1e-3), 0.1)

    expected = norm_and_activate(norm_and_activate(stem)).mean((1, 2))
    features = model.apply(variables, images, train=False, method="features")
    assert jnp.allclose(features, expected, atol=1e-6)


def test_unknown_names_list_what_exists():
    with pytest.raises(UserError, match=r"'resnext.*convnet.*wide_resnet"):
        models.build("resnext", num_classes=10, dtype="float32")
    with pytest.raises(TypeError, match="depth"):
        models.build("convnet", num_classes=10, dtype="float32", depth=3)
